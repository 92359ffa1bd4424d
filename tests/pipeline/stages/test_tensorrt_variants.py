"""Variants that only a board can run: measured by emulation, never timed, bundled all the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgedistill.bundle.reader import open_bundle
from edgedistill.errors import ContractError
from edgedistill.evaluation.contract import Contract
from edgedistill.explain.inputs import open_input
from edgedistill.optimize.emulation import Emulation
from edgedistill.pipeline.run_folder import ONNX
from edgedistill.pipeline.stages.evaluate import Outcome, evaluate_all
from edgedistill.pipeline.stages.result import make_report, write_bundle
from edgedistill.pipeline.stages.variants import make_variants
from edgedistill.recipe import recipe as config

pytestmark = pytest.mark.slow

BOTH = ("optimize.precisions=[fp32, bf16]", "contract.max_latency_p95_ms=1000")


@pytest.fixture(scope="module")
def measured(recipe, data, stages, tmp_path_factory):
    """Return what was measured, and the recipe, by the order of runtimes."""
    folder = tmp_path_factory.mktemp("variants")
    work = tmp_path_factory.mktemp("work") / "variants"

    def of(runtimes: str, *settings: str) -> Outcome:
        both = config.parse(
            config.dump(recipe), [f"optimize.runtimes={runtimes}", *BOTH, *settings]
        )
        if not any(folder.iterdir()):
            make_variants(both, data, None, stages / "model" / ONNX, folder, work)
        return evaluate_all(both, data, stages / "teacher", stages / "student", folder)

    return of


@pytest.fixture(scope="module")
def outcome(measured) -> Outcome:
    return measured("[tensorrt, onnxruntime]")


def test_answers_are_those_of_the_emulation(outcome):
    """Logits and saliency of bfloat16, which ONNX Runtime's CPU cannot compute as it is."""
    model = next(m for m in outcome.models if m.name == "trt-bf16")

    ran = outcome.variants["trt-bf16"]

    expected = Emulation(model.path).logits(outcome.data.test.x)
    np.testing.assert_allclose(ran.evaluation.explanation.logits, expected, atol=1e-5)
    assert ran.evaluation.estimates["saliency_pearson"].value > 0
    assert ran.unseen is not None


def test_they_are_never_timed(outcome):
    """A figure of this CPU would be taken for one of the board."""
    timed = {name: ran.latency is not None for name, ran in outcome.variants.items()}

    assert timed == {"trt-fp32": False, "trt-bf16": False, "ort-fp32": True}
    latencies = {c.name: c.latency_ms is not None for c in make_report(outcome).candidates}
    assert latencies == timed


@pytest.mark.parametrize("prefer", ["size", "latency"])
def test_the_first_runtime_of_the_recipe_is_taken(prefer, measured):
    """Within it the smallest; the clause on latency is left to the board."""
    setting = f"optimize.prefer={prefer}"

    assert measured("[tensorrt, onnxruntime]", setting).chosen == "trt-bf16"
    other = measured("[onnxruntime, tensorrt]", setting)
    assert other.chosen == "ort-fp32"
    assert "latency_p95_ms" in {clause.name for clause in other.clauses}


def test_the_next_runtime_is_taken_if_the_first_keeps_nothing(measured):
    """In 32 bits the file is too large; what was not timed is not held to the clause on time."""
    sizes = {m.name: m.size_bytes for m in measured("[tensorrt, onnxruntime]").models}

    found = measured("[onnxruntime, tensorrt]", f"contract.max_size_bytes={sizes['trt-bf16']}")

    assert found.chosen == "trt-bf16"
    assert [clause.name for clause in found.failures["ort-fp32"]] == ["size_bytes"]
    assert "latency_p95_ms" not in {clause.name for clause in found.clauses}


def test_the_bundle_holds_them(outcome, tmp_path):
    """It is validated by emulation, and the contract inside still asks for the latency."""
    path = tmp_path / "bundle.zip"

    write_bundle(outcome, path)

    with open_bundle(path) as bundle:
        assert bundle.chosen == "trt-bf16"
        assert {m.runtime for m in bundle.models} == {"tensorrt", "onnxruntime"}
        assert bundle.contract.max_latency_p95_ms == 1000
        golden = bundle.golden().series[0]
    student = open_input(path, 0).models[-1]  # what `explain` asks, here by emulation
    expected = outcome.variants["trt-bf16"].evaluation.explanation.logits
    row = np.flatnonzero((outcome.data.test.x == golden).all(axis=(1, 2)))[0]
    np.testing.assert_allclose(student.classifier.logits(golden[None])[0], expected[row], atol=1e-5)


def test_a_bundle_that_breaks_the_contract_is_not_written(outcome, tmp_path):
    """The golden series are judged as on a board."""
    path = tmp_path / "bundle.zip"
    strict = outcome.recipe.model_copy(update={"contract": Contract(max_kl=-1.0)})

    with pytest.raises(ContractError, match="its bundle does not when it is validated"):
        write_bundle(replace(outcome, recipe=strict), path)

    assert not path.exists()
