"""No two random draws of a run share a seed."""

from __future__ import annotations

from edgedistill.distillation import seeds

BRANCHES = 900  # more than a network has stages
WIDTHS = 50  # more than an objective has window widths


def test_offsets_are_distinct():
    """Those of branches and of window widths included, which are counted up."""
    named = {name: value for name, value in vars(seeds).items() if name.isupper()}
    offsets = [value for name, value in named.items() if name not in ("BRANCHES", "TSD_WIDTHS")]
    offsets += [seeds.BRANCHES + branch for branch in range(BRANCHES)]
    offsets += [seeds.TSD_WIDTHS * width for width in range(1, WIDTHS)]

    assert len(set(offsets)) == len(offsets)
    assert 0 not in offsets  # the recipe's own
