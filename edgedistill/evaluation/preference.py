"""What counts among models that keep the contract: nearness to the teacher, speed and size.

NumPy only, as all of this room.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from edgedistill.evaluation.metrics import Estimate

Preference: TypeAlias = Literal["balanced", "size", "latency"]
Estimates: TypeAlias = Mapping[str, Estimate]

AS_FAST = 1.05  # times a latency: so much slower is no slower; medians vary that much
_AS_NEAR = 0.001  # of `loss`; rounding to 16 bits costs less, a series with another class more


def loss(estimates: Estimates) -> float:
    """Return the distance from the teacher in all measured quantities.

    The sum of the share of series with another class, the KL in nats, and one minus the correlation
    of maps, as far as they were measured: 0 for the teacher itself.
    """
    missing = sum(
        1 - estimates[name].value for name in ("agreement", "saliency_pearson") if name in estimates
    )
    return missing + (estimates["kl"].value if "kl" in estimates else 0.0)


def dominators(candidates: Mapping[str, Estimates]) -> dict[str, str]:
    """Return, for each model that is dominated, the nearest to the teacher of those that do.

    One model dominates another if it is nearer to the teacher and no slower, or faster and no
    farther: sizes do not count. Models that were not timed are not compared.
    """
    found = {}
    for name, estimates in candidates.items():
        better = [other for other in candidates if _dominates(candidates[other], estimates)]
        if better:
            found[name] = min(better, key=lambda other: loss(candidates[other]))
    return found


def _dominates(one: Estimates, other: Estimates) -> bool:
    if "latency_p50_ms" not in one or "latency_p50_ms" not in other:
        return False
    nearer = loss(other) - loss(one)
    fast, slow = one["latency_p50_ms"].value, other["latency_p50_ms"].value
    as_good = nearer >= -_AS_NEAR and fast <= AS_FAST * slow
    return as_good and (nearer > _AS_NEAR or slow > AS_FAST * fast)
