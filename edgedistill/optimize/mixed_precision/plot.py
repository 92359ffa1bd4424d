"""What a search found, as a figure: what agreement with the teacher's reasons costs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgedistill.optimize.mixed_precision.candidates import Candidate, front
from edgedistill.optimize.mixed_precision.search import Search
from edgedistill.report.svg import set_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _MUTED, _RULE, _FRONT, _FLOAT = "#1f2328", "#59636e", "#d1d9e0", "#0072b2", "#d55e00"
_INCHES = (9.0, 4.2)
_DPI = 144
_BYTES = 1000  # a kilobyte
_US = 1000  # a millisecond
_TICKS = 5


def draw(found: Search) -> bytes:
    """Return every candidate by size and by latency against saliency agreement, as PNG."""
    import matplotlib
    from matplotlib.figure import Figure

    stream = io.BytesIO()
    with matplotlib.rc_context():
        set_style("search", muted=_MUTED, rule=_RULE)
        figure = Figure(figsize=_INCHES, layout="constrained")
        by_size, by_latency = figure.subplots(1, 2, sharey=True)
        _panel(by_size, found, [c.size_bytes / _BYTES for c in _all(found)])
        _panel(by_latency, found, [_US * c.latency.value for c in _all(found)])
        by_size.set_xlabel("size, kB")
        by_latency.set_xlabel("median latency, µs")
        maps = "saliency_pearson" in found.reference.estimates
        by_size.set_ylabel(
            "Pearson with the teacher's maps" if maps else "agreement with the teacher"
        )
        handles, labels = by_size.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=4, frameon=False)
        figure.savefig(
            stream, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None}
        )
    return stream.getvalue()


def _all(found: Search) -> Sequence[Candidate]:
    return [found.reference, *found.candidates]


def _panel(axes: Axes, found: Search, costs: Sequence[float]) -> None:
    best = front(list(_all(found)))
    looks = {
        "8 bits, mixed": ([c for c in found.candidates if c not in best], _RULE, "o"),
        "on the front": ([c for c in found.candidates if c in best], _FRONT, "o"),
        "float32": ([found.reference], _FLOAT, "D"),
    }
    place = {id(candidate): cost for candidate, cost in zip(_all(found), costs, strict=True)}
    for label, (candidates, color, mark) in looks.items():
        axes.scatter(
            [place[id(c)] for c in candidates],
            [c.quality for c in candidates],
            color=color,
            marker=mark,
            s=34,
            label=label,
            zorder=3,
        )
    axes.scatter(
        [place[id(found.chosen)]],
        [found.chosen.quality],
        s=120,
        facecolors="none",
        edgecolors=_INK,
        linewidths=1.4,
        label="taken",
        zorder=4,
    )
    axes.locator_params(axis="x", nbins=_TICKS)
    axes.grid(color=_RULE, linewidth=0.5)
