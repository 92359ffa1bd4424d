"""One tiny run on real series, with its bundle, that the tests explain series of."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgedistill.pipeline import run as pipeline
from edgedistill.recipe import recipe as config
from edgedistill.recipe.recipe import Recipe

TINY = """
data: {train: ItalyPowerDemand, limit_per_class: 15}
teacher: {width: 6, training: {epochs: 3, accelerator: cpu}}
student:
  width: 4
  objectives: [{name: kd}]
  training: {epochs: 2, accelerator: cpu}
references: {ceiling: false}
optimize: {precisions: [fp32], runs: 10}
golden: 8
contract:
  max_accuracy_drop: 1
  min_agreement: 0
  max_kl: 100
  min_saliency_pearson: -1
  min_saliency_spearman: -1
"""


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    return config.parse(TINY)


@pytest.fixture(scope="session")
def run(recipe, tmp_path_factory) -> Path:
    """The folder of the finished run."""
    folder = tmp_path_factory.mktemp("runs") / "italy"
    assert pipeline.compress(recipe, folder).bundle is not None
    return folder
