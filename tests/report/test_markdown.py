"""The Markdown has the verdict and the tables, and escapes all text."""

from __future__ import annotations

from dataclasses import replace

from edgedistill.report import to_json
from edgedistill.report.markdown import render


def test_markdown_has_the_facts(full_report):
    """Verdict, clauses, models and environment, each with its numbers."""
    text = render(to_json(full_report))

    assert text.startswith("# GunPoint, linear 302 → 62: kept, undecided\n")
    assert (
        "| Agreement with the teacher | ≥ 90.0 % | 90.0 % (84.7 to 94.7 %) | kept, undecided |"
        in text
    )
    assert "|  | teacher | student | fp32 | fp16 | int8, chosen |" in text
    assert "| File size | 1.07 MB | 19.8 kB | 18.4 kB | 9.95 kB | 1.91 kB |" in text
    assert "| python | 3.11.7 |" in text


def test_data_are_described_and_warned_about(full_report):
    """Warnings stand above the tables; the classes have a table of their own."""
    text = render(to_json(full_report))

    warning = "- warning: The validation split has fewer than 5 series of 'gun' (4)."
    assert text.index(warning) < text.index("## Contract")
    assert "| Missing values | 1.3 % of all values, in 3 series |" in text
    assert "| Class | training | validation | test |" in text
    assert "| gun | 20 | 4 | 76 |" in text


def test_emulated_models_are_noted(full_report):
    """Below the table, which has dashes for their latency."""
    *others, model = full_report.candidates
    model = replace(model, runtime="tensorrt", latency_ms=None)

    text = render(to_json(replace(full_report, candidates=(*others, model))))

    assert f"|\n\nEmulated on a CPU: {model.name}. " in text


def test_tables_have_equal_rows(full_report):
    """Every line of a table has as many cells as its head."""
    for part in render(to_json(full_report)).split("\n\n"):
        widths = {line.count(" |") for line in part.splitlines() if line.startswith("|")}
        assert len(widths) <= 1


def test_broken_report_has_reasons(board_report):
    """They are above the tables."""
    text = render(to_json(board_report))

    assert text.index("- Saliency agreement (Pearson) is 0.610") < text.index("## Contract")
    assert "| Saliency agreement, Pearson | ≥ 0.750 | 0.610 (0.520 to 0.700) | broken |" in text


def test_text_is_escaped(board_report):
    """A name cannot open a cell, a tag or a new line."""
    report = replace(board_report, name="a|b <b>\nc*", contract=(), environment={})

    text = render(to_json(report))

    assert text.startswith(r"# a\|b \<b\> c\*: broken")
    assert "## Contract" not in text
    assert "## Environment" not in text


def test_boards_follow_the_models(joined_report):
    """The chain as a table, then each board with its outcome, its reasons and its sensors."""
    text = render(to_json(joined_report))

    boards = text[text.index("## Boards") : text.index("## Environment")]
    assert "| engine on orin, kept | engine on pi-5, broken |" in boards
    assert "### pi-5: broken" in boards
    assert "- Latency p95 is 0.36 ms" in boards
    assert "| throttling | In 2 of 2 readings: cpufreq-cpu0 slows the machine down. |" in boards


def test_sensors_of_a_boards_own_report(orin_report):
    """A report of one machine has them in a section of its own."""
    text = render(to_json(orin_report))

    assert "## Machine" in text
    assert "## Boards" not in text
    assert "| power mode | 15W (0) |" in text
