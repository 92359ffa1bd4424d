"""`predict` gives for the test file of a run what the run's report was made from."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest

from edgedistill.bundle.reader import open_bundle
from edgedistill.device.__main__ import main
from edgedistill.io.files import read_json, write_text
from edgedistill.pipeline.run import compress
from edgedistill.pipeline.stages.data import prepare_data
from edgedistill.recipe import recipe as config
from edgedistill.runtimes.onnxruntime import OrtRuntime

pytestmark = pytest.mark.slow

RECIPE = """
data: {train: TRAIN, label: state}
teacher: {width: 4, training: {epochs: 1, batch_size: 8, accelerator: cpu}}
student:
  width: 4
  objectives: [{name: kd}]
  training: {epochs: 1, batch_size: 8, accelerator: cpu}
optimize: {precisions: [fp32], runs: 10}
references: {ceiling: false}
golden: 8
contract: {max_accuracy_drop: 1, min_agreement: 0, max_kl: 50, min_saliency_pearson: null,
  min_saliency_spearman: null}
"""


def _table(rng: np.random.Generator, count: int) -> str:
    """A table with an index, identifiers, two labels, unequal lengths and padding."""
    rows = [";id;state;target;" + ";".join(f"t{t}" for t in range(12))]
    for number in range(count):
        values = [f"{v:.4f}".replace(".", ",") for v in rng.normal(number % 2, 1, size=12)]
        values[:1] = ["NaN"] if number % 3 == 0 else values[:1]
        values[9:] = [""] * 3 if number % 5 == 0 else values[9:]
        rows.append(";".join([str(number), f"s{number}", ("1", "2,0")[number % 2], "9", *values]))
    return "\n".join(rows) + "\n"


def test_probabilities_of_the_test_file_are_those_of_the_run(tmp_path: Path, rng):
    """Index, ids, a second label, decimal commas, padding at both ends, unequal lengths."""
    for split, count in (("TRAIN", 30), ("TEST", 12)):
        write_text(tmp_path / f"toys_{split}.csv", _table(rng, count))
    recipe = config.parse(RECIPE.replace("TRAIN", str(tmp_path / "toys_TRAIN.csv")))
    compress(recipe, tmp_path / "run")
    bundle = tmp_path / "run" / "result" / "bundle.zip"

    out = io.StringIO()
    with redirect_stdout(out):
        code = main(["predict", str(bundle), str(tmp_path / "toys_TEST.csv"), "--json"])

    records = [json.loads(line) for line in out.getvalue().splitlines()]
    test = prepare_data(recipe).test
    with open_bundle(bundle) as opened:
        logits = OrtRuntime(opened.model().path).logits(test.x)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = shifted / shifted.sum(axis=1, keepdims=True)
    assert code == 0
    assert [record["id"] for record in records] == [f"s{number}" for number in range(12)]
    found = [list(record["probabilities"].values()) for record in records]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    hits = np.mean([record["index"] for record in records] == test.y)
    report = read_json(tmp_path / "run" / "result" / "report.json")
    chosen = next(one for one in report["candidates"] if one["name"] == report["chosen"])
    assert chosen["metrics"]["accuracy"]["value"] == pytest.approx(hits)
