"""The figure of a search: the cost of agreement with the teacher's maps."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgedistill.optimize.mixed_precision.candidates import Candidate, pareto_front
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


def draw(search: Search) -> bytes:
    """Return every candidate by size and by latency against saliency agreement, as PNG."""
    import matplotlib
    from matplotlib.figure import Figure

    stream = io.BytesIO()
    with matplotlib.rc_context():
        set_style("search", muted=_MUTED, rule=_RULE)
        figure = Figure(figsize=_INCHES, layout="constrained")
        by_size, by_latency = figure.subplots(1, 2, sharey=True)
        _panel(by_size, search, [c.size_bytes / _BYTES for c in _all(search)])
        _panel(by_latency, search, [_US * c.latency.value for c in _all(search)])
        by_size.set_xlabel("size, kB")
        by_latency.set_xlabel("median latency, µs")
        maps = "saliency_pearson" in search.reference.estimates
        by_size.set_ylabel(
            "Pearson with the teacher's maps" if maps else "agreement with the teacher"
        )
        handles, labels = by_size.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=4, frameon=False)
        figure.savefig(
            stream, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None}
        )
    return stream.getvalue()


def _all(search: Search) -> Sequence[Candidate]:
    return [search.reference, *search.candidates]


def _panel(axes: Axes, search: Search, costs: Sequence[float]) -> None:
    best = pareto_front(list(_all(search)))
    styles = {
        "8 bits, mixed": ([c for c in search.candidates if c not in best], _RULE, "o"),
        "on the front": ([c for c in search.candidates if c in best], _FRONT, "o"),
        "float32": ([search.reference], _FLOAT, "D"),
    }
    place = {id(candidate): cost for candidate, cost in zip(_all(search), costs, strict=True)}
    for label, (candidates, color, mark) in styles.items():
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
        [place[id(search.chosen)]],
        [search.chosen.quality],
        s=120,
        facecolors="none",
        edgecolors=_INK,
        linewidths=1.4,
        label="taken",
        zorder=4,
    )
    axes.locator_params(axis="x", nbins=_TICKS)
    axes.grid(color=_RULE, linewidth=0.5)
