"""A figure shows every model in the report's colors, and its captions name the rest."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest

from edgedistill.explain import explain, open_input
from edgedistill.explain import plot as drawing
from edgedistill.explain.plot import render
from edgedistill.report import format as fmt
from edgedistill.report.svg import LIGHT

pytestmark = pytest.mark.slow

EVIL = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def report(run, recipe):
    return explain(open_input(run, 2, recipe=recipe), "occlusion", lambda *_: None)


def _colors(picture):
    """Return the colors of a PNG, (pixels, 3), 0 to 255."""
    import io

    from matplotlib.image import imread

    return (imread(io.BytesIO(picture))[..., :3] * 255).round().astype(int).reshape(-1, 3)


def _has(picture, color):
    wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return bool((_colors(picture) == wanted).all(axis=1).any())


def test_a_png_shows_both_models_on_paper(report):
    """In the page's light colors; equal reports give equal bytes."""
    picture = drawing.png(report)

    assert picture.startswith(b"\x89PNG")
    for color in (LIGHT.teacher, LIGHT.student, LIGHT.paper):
        assert _has(picture, color)
    assert drawing.png(report) == picture


def test_a_model_alone_has_no_other_color(report):
    """So the test above can fail."""
    alone = replace(report, attributions=report.attributions[1:], pearson=None)

    picture = drawing.png(alone)

    assert not _has(picture, LIGHT.teacher)
    assert _has(picture, LIGHT.student)
    assert drawing.png(report) != picture


def test_light_colors_are_those_of_the_page():
    """The report's style sheet names them first for light paper."""
    css = resources.files("edgedistill.report").joinpath("report.css").read_text("utf-8")

    for role in ("ink", "muted", "rule", "teacher", "student", "paper"):
        found = re.search(rf"--{role}: (#\w+);", css)
        assert found is not None
        assert getattr(LIGHT, role) == found[1]


def test_a_figure_of_the_page_is_whole_and_has_its_colors(report):
    """Well-formed, with the page's variables and no stand-in left."""
    figure = drawing.svg(report)

    ET.fromstring(figure.replace("xlink:href", "href"))
    for role in ("ink", "muted", "teacher", "student"):
        assert f"var(--{role})" in figure
    assert not re.search(r"#0[1-7]0[1-7]0[1-7]", figure)


def test_channels_that_are_not_drawn_are_mentioned(report):
    """Six channels are more than can be told apart."""
    subject = report.input
    many = replace(subject, series=np.repeat(subject.series, 6, axis=1))

    assert not any("channels;" in s for s in drawing.captions(report))
    captions = drawing.captions(replace(report, input=many))
    assert "Drawn are the first 4 of 6 channels; the scores are of all." in captions
    assert drawing.png(replace(report, input=many)).startswith(b"\x89PNG")


def test_captions_name_predictions_and_agreement(report):
    """The series, its class, both predictions, the explained class, and how alike the maps are."""
    title, *rest = drawing.captions(report)

    names = report.input.class_names
    predicted = names[report.attributions[0].prediction]
    assert title.startswith(f"Test series 2 of ItalyPowerDemand, of class {report.input.label}")
    assert f"the teacher says {predicted} (" in title
    assert f"supports class {predicted}, which the teacher predicts" in rest[0]
    assert rest[1].startswith("Pearson of the two maps: ")
    assert rest[2].endswith("are covered by the mean of their channel.")


def test_gradients_are_not_called_occlusion(run, recipe):
    """They have no KL, and are not taken for occlusion."""
    subject = open_input(run, 2, recipe=recipe)

    report = explain(subject, "integrated-gradients", lambda *_: None)

    assert any("another quantity than occlusion" in s for s in drawing.captions(report))
    assert ">KL<" not in drawing.svg(report)


def test_flat_maps_are_drawn(report):
    """A model that reacts to no window has a map too."""
    flat = [
        replace(t, map=np.zeros_like(t.map), kl=np.zeros_like(t.scores))
        for t in report.attributions
    ]

    assert drawing.png(replace(report, attributions=tuple(flat))).startswith(b"\x89PNG")


def test_page_holds_figure_and_windows(report):
    """Both models with their strongest windows, in the given number."""
    page = render(report, 3)

    assert page.count("<svg") == 1
    assert page.count('<tr><th scope="row">') == 6
    for attribution in report.attributions:
        strongest = report.windows(attribution, 1)[0]
        assert fmt.decimals(float(attribution.scores[strongest])) in page
        assert f"{attribution.role.capitalize()}: " in page
    assert render(report, 3) == page


def test_page_fetches_nothing(report):
    """No script, no link, no picture from elsewhere."""
    page = render(report, 3)

    assert not re.search(r"<script|<link|<img|https?://", page)


def test_names_are_text(report):
    """A class may be called anything."""
    subject = replace(report.input, class_names=(EVIL, EVIL), label=EVIL, origin=EVIL)

    page = render(replace(report, input=subject), 3)

    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_gradients_have_no_kl(run, recipe):
    """Neither a column nor an explanation of it."""
    subject = open_input(run, 2, recipe=recipe)

    page = render(explain(subject, "gradient-input", lambda *_: None), 3)

    assert "KL" not in re.sub(r"<style>.*?</style>", "", page, flags=re.S)
