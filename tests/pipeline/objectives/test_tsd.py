"""The windows of `tsd` by recipe: widths, draws, losses, and the caches that belong to them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgedistill.distillation.objectives import TSD, Batch, MultiWidthObjective
from edgedistill.errors import ConfigError, DataError
from edgedistill.recipe import recipe as config
from edgedistill.teachers.window_cache import start_probabilities

pytestmark = pytest.mark.slow

PUBLISHED = "windows: 4, width: 6, bank: 4"
SETTINGS = {
    "widths": "windows: 5, width: [6, 3], bank: 4",
    "widths, no cache": "windows: 5, width: [6, 3], bank: 0",
    "importance": f"{PUBLISHED}, draw: importance",
    "importance, no cache": "windows: 4, width: 6, bank: 0, draw: importance",
    "cosine": f"{PUBLISHED}, loss: cosine",
    "ranking": f"{PUBLISHED}, loss: ranking",
    "all": "windows: 5, width: [6, 3], bank: 4, draw: importance, loss: ranking",
    "ramp": f"{PUBLISHED}, ramp: 1",
}


@pytest.fixture
def tsd(context, build):
    """A function from the settings of `tsd` to the objective."""
    return lambda settings: build(f"name: tsd, {settings}", context)


@pytest.fixture(scope="module")
def published(distill, weights_of) -> np.ndarray:
    """The weights of a student of the published objective."""
    return weights_of(distill("name: cross_entropy", f"name: tsd, {PUBLISHED}"))


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=list(SETTINGS))
def test_settings_change_the_student(distill, weights_of, published, settings):
    """After two epochs it is another than that of the published objective."""
    weights = weights_of(distill("name: cross_entropy", f"name: tsd, {settings}"))

    assert np.abs(weights - published).max() > 1e-4


def test_every_width_has_its_share_of_windows_and_a_cache(tsd, tmp_path):
    """The cache of one width is the one that this width alone would draw from."""
    several = tsd(SETTINGS["widths"])

    assert isinstance(several, MultiWidthObjective)
    assert [(part._width, part._windows) for part in several.parts] == [(6, 3), (3, 2)]
    assert several._shares == [0.6, 0.4]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bank-3-8", "bank-6-12"]
    alone = tsd("windows: 3, width: 6, bank: 4")
    assert isinstance(alone, TSD)
    np.testing.assert_array_equal(alone._teacher.logits, several.parts[0]._teacher.logits)


@pytest.mark.parametrize("bank", [0, 2])
def test_widths_draw_starts_of_their_own(context, tsd, bank):
    """The same draws for all of them would cover a third of the starts."""
    known = context.data
    batch = Batch(known.train[:4], known.series[:4], known.labels[:4], step=3)

    several = tsd(f"windows: 400, width: [6, 5], bank: {bank}, draw: importance")

    first, second = (part._draw(batch)[0].ravel() for part in several.parts)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.4


def test_disk_limit_holds_for_all_widths_together(tsd, tmp_path):
    tsd("windows: 4, width: [6, 3], bank: 100, bank_mib: 0.02")

    size = sum(path.stat().st_size for path in tmp_path.rglob("*.npy"))
    assert 0.8 * 0.02 * 2**20 < size <= 0.02 * 2**20


def test_importance_draws_starts_by_the_teachers_map(context, tsd, tmp_path):
    """With a cache and without; the probabilities are those of the teacher's KL maps."""
    without_cache = tsd(SETTINGS["importance, no cache"])

    cache = tsd("windows: 400, width: 6, bank: 1, draw: importance")._teacher

    expected = start_probabilities(context.explanation.kl, context.plan, 6)
    np.testing.assert_array_equal(without_cache._start_weights, expected)
    assert [path.name for path in tmp_path.iterdir()] == ["bank-6-400-importance"]
    drawn = [np.bincount(row, minlength=19) / 400 for row in cache.starts]
    assert len(drawn) == len(context.data.series)
    np.testing.assert_allclose(drawn, expected, atol=0.12)


def test_draws_have_caches_of_their_own(tsd, tmp_path):
    """The one that is drawn evenly is not written again."""
    tsd(PUBLISHED)
    before = (tmp_path / "bank-6-16" / "stage.json").stat()

    tsd(SETTINGS["importance"])
    tsd(PUBLISHED)

    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["bank-6-16", "bank-6-16-importance"]
    assert (tmp_path / "bank-6-16" / "stage.json").stat().st_mtime_ns == before.st_mtime_ns


def test_teacher_without_maps_is_refused(context, build):
    with pytest.raises(ConfigError, match="The objective tsd asks the teacher about perturbed"):
        build(f"name: tsd, {SETTINGS['importance']}", replace(context, has_maps=False))


def test_width_beyond_the_series_is_refused_among_several(tsd):
    with pytest.raises(DataError, match="window of 25 steps does not fit a series of 24"):
        tsd("windows: 4, width: [6, 25], bank: 4")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("width: [5, 3, 5]", r"objectives\.1\.width is \[5, 3, 5\]\. Name .* each of them once"),
        ("width: []", r"objectives\.1\.width is \[\]\. Name at least one width"),
        ("width: [5, 0]", r"objectives\.1\.width\.1 is 0\. .*greater than or equal to 1"),
        ("windows: 2, width: [3, 5, 7]", r"objectives\.1\.windows is 2 for 3 widths"),
        ("loss: ranking, form: elementwise", r"objectives\.1\.loss is 'ranking' beside form"),
        ("loss: l2", r"objectives\.1\.loss is 'l2'\. .*'smooth_l1', 'cosine' or 'ranking'"),
        ("draw: often", r"objectives\.1\.draw is 'often'\. .*'uniform' or 'importance'"),
    ],
)
def test_contradicting_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        config.parse(
            "", [f"student.objectives=[{{name: cross_entropy}}, {{name: tsd, {settings}}}]"]
        )
