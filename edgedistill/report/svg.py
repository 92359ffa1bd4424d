"""Inline SVG that takes its colors and its font from the page around it.

Matplotlib draws with one stand-in color a role; each is then replaced by a CSS
variable, so that the same figure is right on light and on dark paper.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Stand-ins that no drawing has by chance.
INK, MUTED, RULE, TEACHER, STUDENT = "#010203", "#020304", "#030405", "#040506", "#050607"
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    TEACHER: "var(--teacher)",
    STUDENT: "var(--student)",
}
WIDE, NARROW = 380.0, 340.0  # CSS pixels at scale 1: half and a third of the page, or a phone


@dataclass(frozen=True, slots=True)
class Palette:
    """A color a role."""

    ink: str
    muted: str
    rule: str
    teacher: str
    student: str
    paper: str = "none"

    def of(self, role: str) -> str:
        """Color of a model; all but the teacher have the student's."""
        return self.teacher if role == "teacher" else self.student


PAGE = Palette(INK, MUTED, RULE, TEACHER, STUDENT)  # stand-ins that become CSS variables
LIGHT = Palette("#1c1d1f", "#5d6066", "#d9d8d2", "#1d5fa6", "#bd4a0c", "#fcfcfa")


def svg(name: str, draw: Callable[[Figure], None], *, width: float, height: float) -> str:
    """Render a figure as SVG without fixed size, date or external resources.

    Args:
        name: name that is unique in a page; it begins every id.
        draw: function that draws into an empty figure.
        width: width in CSS pixels at scale 1.
        height: height in CSS pixels at scale 1.
    """
    import matplotlib
    from matplotlib.figure import Figure

    slug = re.sub(r"[^a-z0-9]+", "-", name.lower())
    stream = io.StringIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        # The browser has the glyphs; it does not matter that Matplotlib's own font lacks some.
        warnings.filterwarnings(
            "ignore", message=r"Glyph \d+ .* missing from", category=UserWarning
        )
        set_style(slug)
        figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
        draw(figure)
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    return _themed(stream.getvalue(), slug)


def set_style(salt: str, *, muted: str = MUTED, rule: str = RULE) -> None:
    """Set the style of Matplotlib; by default with stand-in colors, which `svg` replaces."""
    import matplotlib

    matplotlib.rcdefaults()  # a user's own style must not show
    matplotlib.rc("svg", fonttype="none", hashsalt=salt)
    matplotlib.rc("text", color=muted, parse_math=False)  # a class may be called "$x$"
    matplotlib.rc("font", size=11)
    matplotlib.rc("axes", edgecolor=rule, labelcolor=muted, linewidth=0.8, axisbelow=True)
    matplotlib.rc("axes.spines", top=False, right=False)
    matplotlib.rc("xtick", color=rule, labelcolor=muted, labelsize=10.5)
    matplotlib.rc("ytick", color=rule, labelcolor=muted, labelsize=10.5)
    matplotlib.rc("path", simplify=False)


def _themed(text: str, slug: str) -> str:
    """Adapt the tags of a figure to the page; its texts stay as they are."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)  # it would style the whole page
    return re.sub(r"<[^>]+>", lambda tag: _themed_tag(tag[0], slug), text).strip()


def _themed_tag(tag: str, slug: str) -> str:
    """Replace stand-ins by CSS variables, make ids unique, drop size and font."""
    if tag.startswith("<svg"):
        tag = re.sub(r' (width|height|xmlns(:xlink)?)="[^"]*"', "", tag)
    tag = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{slug}-", tag)
    tag = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", tag)
    tag = re.sub(r" font-family: [^;\"]*;?", "", tag)
    tag = re.sub(r"(\d+\.\d\d)\d+", r"\1", tag)
    for stand_in, variable in _VARIABLES.items():
        tag = tag.replace(stand_in, variable)
    return tag
