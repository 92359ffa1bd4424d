"""The figure of a search, with and without saliency maps."""

from __future__ import annotations

from dataclasses import fields

import onnx
import pytest

from edgedistill.evaluation.contract import Contract
from edgedistill.evaluation.metrics import Estimate
from edgedistill.optimize.mixed_precision.candidates import Candidate, Setting
from edgedistill.optimize.mixed_precision.plot import draw
from edgedistill.optimize.mixed_precision.search import Search

NOTHING = dict.fromkeys((field.name for field in fields(Contract)), None)


def candidate(method: str | None, size: float, quality: float, *, maps: bool) -> Candidate:
    values = {"agreement": quality, "kl": 0.1, "size_bytes": size, "latency_p50_ms": size / 1e5}
    if maps:
        values["saliency_pearson"] = quality
    estimates = {name: Estimate(value, value, value) for name, value in values.items()}
    return Candidate(Setting(method, frozenset({"Conv_0"} if size > 1000 else ())), estimates)


@pytest.mark.parametrize("maps", [True, False], ids=["maps", "classes"])
def test_a_search_is_drawn(maps):
    """A PNG, the same for the same search, another for another."""
    candidates = tuple(
        candidate("minmax", size, quality, maps=maps)
        for size, quality in ((1000, 0.8), (2000, 0.9))
    )
    pictures = []
    for chosen in candidates:
        found = Search(
            reference=candidate(None, 4000, 0.95, maps=maps),
            candidates=candidates,
            sensitivity=(),
            chosen=chosen,
            terms=Contract(**NOTHING),
            complete=True,
            model=onnx.ModelProto(),
        )
        pictures.append(draw(found))
        assert draw(found) == pictures[-1]

    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert pictures[0] != pictures[1]
