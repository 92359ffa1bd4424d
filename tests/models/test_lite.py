"""The fixed filters of LITE."""

from __future__ import annotations

import pytest
import torch

from edgedistill.models import ModelSpec, build
from edgedistill.models.lite import HandCraftedFilters

TRENDS = (2, 4, 8, 16, 32, 64)
PEAKS = (6, 12, 24, 48, 96)


def test_filters_equal_seventeen_convolutions(rng):
    """One padded convolution gives what seventeen of their own length give."""
    x = torch.from_numpy(rng.normal(size=(2, 3, 50))).float()

    actual = HandCraftedFilters()(x)

    up = [[-1.0 if i % 2 == 0 else 1.0 for i in range(k)] for k in TRENDS]
    down = [[-v for v in f] for f in up]
    expected = torch.cat([apply(f, x) for f in up + down + [peak(k) for k in PEAKS]], dim=1)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    assert actual.shape == (2, HandCraftedFilters.outputs, 50)


@pytest.mark.parametrize(("series", "fires"), [("rise", 0), ("fall", len(TRENDS))])
def test_trend_filters_fire_on_their_trend_only(series, fires):
    """The shortest filters return 1 for a slope of 1, and 0 for the opposite one."""
    ramp = torch.arange(12.0) if series == "rise" else -torch.arange(12.0)

    found = HandCraftedFilters()(ramp[None, None])[0, :, 2:-2]

    assert (found[fires] == 1).all()
    assert (found[len(TRENDS) - fires] == 0).all()


def test_peak_filter_fires_at_the_peak():
    bump = torch.exp(-((torch.arange(40.0) - 20) ** 2) / 2)

    found = HandCraftedFilters()(bump[None, None])[0, 2 * len(TRENDS)]

    assert abs(int(found.argmax()) - 20) <= 1


def test_filters_are_not_trained_and_not_stored():
    model = build(ModelSpec(family="lite"), channels=1, classes=2, length=20)

    assert [n for n, _ in model.named_parameters() if "fixed" in n] == []
    assert [n for n in model.state_dict() if "fixed" in n] == []


def peak(kernel: int) -> list[float]:
    """Return the published peak filter, written out: three bumps of `kernel / 3` steps."""
    half = kernel // 6
    rise = [((i + 1) / half) ** 2 for i in range(half)]
    bump = rise + rise[::-1]
    return [-v for v in bump] + [2 * v for v in bump] + [-v for v in bump]


def apply(values: list[float], x: torch.Tensor) -> torch.Tensor:
    """Convolve every channel with one filter, sum the channels, clip at 0."""
    weight = torch.tensor(values).expand(1, x.shape[1], -1)
    reach = len(values) - 1
    padded = torch.nn.functional.pad(x, (reach // 2, reach - reach // 2))
    return torch.relu(torch.nn.functional.conv1d(padded, weight))
