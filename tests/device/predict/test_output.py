"""What leaves can be read by the programs and the people it is meant for."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable

import numpy as np
import pytest

from edgedistill.bundle.reader import open_bundle
from edgedistill.device.predict.inputs import Item
from edgedistill.device.predict.output import CsvRows, JsonLines, Table
from edgedistill.device.predict.predictor import PredictionResult, Predictor
from edgedistill.device.runtime import start


@pytest.fixture
def answered(italy) -> Callable[..., tuple[Predictor, list[PredictionResult]]]:
    """Return a predictor, and its answers to two series with a bad line between them."""

    def answer(**options: bool) -> tuple[Predictor, list[PredictionResult]]:
        with open_bundle(italy) as bundle:
            predictor = Predictor(bundle, start(bundle.model()), **options)
            items = [
                Item(place={"line": 1}, series=np.arange(24.0)[None]),
                Item(place={"line": 2}, error="it is\x1b[2J not JSON"),
                Item(place={"line": 3}, id="b,\x07\ud800", series=np.arange(24.0)[None, ::-1]),
            ]
            return predictor, [predictor.predict_item(item) for item in items]

    return answer


def test_json_lines(answered):
    """An object a line; probabilities by class, and errors where they happened."""
    predictor, answers = answered()
    out = io.StringIO()

    for answer in answers:
        JsonLines(predictor, out)(answer)

    first, second, third = map(json.loads, out.getvalue().splitlines())
    found = answers[0].prediction
    assert first["class"] == predictor.class_names[found.index]
    np.testing.assert_allclose(
        list(first["probabilities"].values()), found.probabilities, rtol=1e-6
    )
    assert list(first["probabilities"]) == list(predictor.class_names)
    assert second == {"line": 2, "error": "it is\x1b[2J not JSON"}
    assert third["id"] == "b,\x07\ud800"


def test_json_lines_with_saliency_begin_with_the_plan(answered):
    """It says once which steps each number of a map is about."""
    predictor, answers = answered(saliency=True)
    out = io.StringIO()

    write = JsonLines(predictor, out)
    for answer in answers:
        write(answer)

    plan, first, *_ = map(json.loads, out.getvalue().splitlines())
    assert plan["plan"]["starts"] == predictor.plan.starts.tolist()
    assert plan["plan"]["width"] == predictor.plan.width
    np.testing.assert_allclose(first["saliency"], answers[0].prediction.signed, rtol=1e-6)


@pytest.mark.parametrize("saliency", [False, True])
def test_csv(answered, saliency):
    """Every row has the columns of the header; errors are elsewhere."""
    predictor, answers = answered(saliency=saliency)
    out, errors = io.StringIO(), io.StringIO()

    write = CsvRows(predictor, out, errors)
    for answer in answers:
        write(answer)

    rows = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert [row["line"] for row in rows] == ["1", "3"]
    assert rows[1]["id"] == r"b,\x07\ud800"
    assert float(rows[0]["p(winter)"]) + float(rows[0]["p(summer)"]) == pytest.approx(1)
    maps = [key for key in rows[0] if key.startswith("saliency@")]
    starts = predictor.plan.starts.tolist() if saliency else []
    assert maps == [f"saliency@{start}" for start in starts]
    assert errors.getvalue().startswith("line 2: it is")


def test_table(answered):
    """Aligned, with the strongest window as a reason, and no control characters."""
    predictor, answers = answered(saliency=True)
    out, errors = io.StringIO(), io.StringIO()

    write = Table(predictor, out, errors)
    for answer in answers:
        write(answer)

    head, first, second = out.getvalue().splitlines()
    signed = answers[0].prediction.signed
    strongest = int(predictor.plan.starts[np.abs(signed).argmax()])
    assert head.split() == ["line", "id", "class", "probability", "strongest", "reason"]
    assert f"steps {strongest} to {strongest + predictor.plan.width - 1}: " in first
    assert first.index("steps") == second.index("steps")
    assert "\x07" not in second
    assert "\x1b" not in errors.getvalue()
