"""`cutmix_kd` by recipe, and the window cache that it shares with `tsd`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgedistill.distillation.objectives import CutMixKD
from edgedistill.errors import ConfigError
from edgedistill.io.files import read_json

pytestmark = pytest.mark.slow

WINDOWS = "windows: 4, width: 6, bank: 4"


def test_settings_reach_the_objective(context, build):
    objective = build(f"name: cutmix_kd, {WINDOWS}, temperature: 3", context)

    assert isinstance(objective, CutMixKD)
    assert (objective._windows, objective._width, objective._temperature) == (4, 6, 3)
    assert objective._seed == context.seed


def test_cutmix_kd_and_tsd_share_one_cache(context, build, tmp_path):
    for name in ("cutmix_kd", "tsd"):
        build(f"name: {name}, {WINDOWS}", context)

    assert [folder.name for folder in tmp_path.iterdir()] == ["bank-6-16"]


@pytest.mark.parametrize("bank", [0, 4])
def test_it_distills_beside_tsd_maps(distill, weights_of, bank):
    """With a cache, and with the teacher run at every step."""
    windows = f"windows: 4, width: 6, bank: {bank}"

    folder = distill(f"name: cutmix_kd, {windows}, start: 0.3", "name: tsd_maps")

    (trial,) = read_json(folder / "trials.json")["trials"]
    assert trial["weights"] == {"cutmix_kd": 1.0, "tsd_maps": 1.0}
    assert len(weights_of(folder))


def test_logits_alone_are_not_enough(context, build):
    """A file of them has none for perturbed copies."""
    with pytest.raises(ConfigError, match="cutmix_kd asks the teacher about pertur"):
        build(f"name: cutmix_kd, {WINDOWS}", replace(context, has_maps=False))
