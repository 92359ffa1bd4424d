"""The report shows the statistics of the table, offline and in the style of all reports."""

from __future__ import annotations

import numpy as np
import pytest

from edgedistill.errors import DataError
from edgedistill.experiment import report as reporting
from edgedistill.experiment import results
from edgedistill.experiment.report import DIAGRAM, MARKDOWN, PAGE, SCATTER, write_report
from edgedistill.experiment.results import RESULTS, Row

pytestmark = pytest.mark.slow

METHODS = ("kd", "maps | kd", "<control>")
PNG = b"\x89PNG"


@pytest.fixture
def folder(tmp_path, rng):
    """An experiment of eight sets, three methods and two seeds, made by hand."""
    rows = [
        Row(
            f"Set{s}",
            method,
            seed,
            None,
            {
                "accuracy": 0.9 - 0.1 * m + 0.01 * float(rng.random()),
                "saliency_pearson": 0.3 + 0.2 * m,
                "teacher_accuracy": 0.95,
                "ceiling_pearson": 0.8,
                "floor_pearson": 0.05,
            },
            "{}",
        )
        for s in range(8)
        for m, method in enumerate(METHODS)
        for seed in (1, 2)
    ]
    rows[-1] = Row(rows[-1].set, rows[-1].method, 2, "The loss is no number.", {})
    results.write(tmp_path / RESULTS, rows)
    return tmp_path


def test_every_file_is_written(folder):
    data = write_report(folder)

    page, text = ((folder / name).read_text("utf-8") for name in (PAGE, MARKDOWN))
    assert (folder / DIAGRAM).read_bytes().startswith(PNG)
    assert (folder / SCATTER).read_bytes().startswith(PNG)
    assert "&lt;control&gt;" in page
    assert "<control>" not in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "| Set0 |" in text
    assert "maps \\| kd" in text
    for output in (page, text):
        assert "1 of 48 runs failed." in output
        assert "The loss is no number." in output
    assert data.to_json()["mean_ranks"] == {"kd": 1.0, "maps | kd": 2.0, "<control>": 3.0}


def test_tables_have_means_intervals_and_references(folder):
    rows = results.read(folder / RESULTS)

    data = reporting.report_data(rows, "accuracy")

    tables = {table.title: table for table in data.tables}
    mine = [r.numbers["accuracy"] for r in rows if (r.set, r.method) == ("Set0", "kd")]
    assert tables["Accuracy"].head == ("Set", *METHODS, "Teacher")
    assert tables["Accuracy"].rows[0][1].startswith(f"{100 * np.mean(mine):.1f} % (")
    assert tables["Accuracy"].rows[0][-1] == "95.0 %"
    assert tables["Saliency Pearson"].head[-2:] == ("Ceiling", "Floor")
    assert [row[0] for row in tables["Methods"].rows] == list(METHODS)
    assert tables["Pairs"].rows[0][1:3] == ("8", "0")


def test_scatter_has_accuracy_and_saliency_agreement(folder):
    data = reporting.report_data(results.read(folder / RESULTS), "accuracy")

    scatter = data.scatter
    assert scatter is not None
    assert (scatter.ceiling, scatter.floor) == pytest.approx((0.8, 0.05))
    assert [points.method for points in scatter.points] == list(METHODS)
    assert np.mean(scatter.points[2].pearson) == pytest.approx(0.7)
    assert -0.26 < np.mean(scatter.points[2].accuracy) < -0.23


def test_stale_diagram_is_removed(folder):
    """Two methods have no diagram, and that of an earlier report is deleted."""
    write_report(folder)
    kept = [row for row in results.read(folder / RESULTS) if row.method != METHODS[2]]
    results.write(folder / RESULTS, kept)

    write_report(folder, "saliency_pearson")

    assert not (folder / DIAGRAM).exists()
    assert "Two methods" in (folder / MARKDOWN).read_text("utf-8")


def test_teachers_without_maps_have_no_scatter(tmp_path):
    rows = [Row("a", m, 1, None, {"accuracy": 0.5, "teacher_accuracy": 0.6}) for m in ("x", "y")]
    results.write(tmp_path / RESULTS, rows)

    data = write_report(tmp_path)

    assert data.scatter is None
    assert not (tmp_path / SCATTER).exists()


def test_unknown_measure_writes_nothing(folder):
    with pytest.raises(DataError, match="There is no measure"):
        write_report(folder, "beauty")

    assert not (folder / PAGE).exists()


def test_published_accuracies_are_in_the_table_of_accuracies(folder):
    write_report(folder, published={"ResNet, published": {"Set0": 0.123}})

    text = (folder / MARKDOWN).read_text("utf-8")
    assert text.count("ResNet, published") == 1
    assert next(line for line in text.splitlines() if line.startswith("| Set0")).endswith(
        "12.3 % |"
    )
