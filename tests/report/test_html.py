"""The page has all facts, needs no network, and escapes all text."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from edgedistill.errors import DataError
from edgedistill.report import Confusion, Curves, to_json
from edgedistill.report.html import render

pytestmark = pytest.mark.slow

EVIL = "<script>alert('x')</script>"


class Page(HTMLParser):
    """What a browser would see: tags with attributes, ids, text, unclosed tags."""

    VOID = frozenset({"meta", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.text, self.ids, self.open = [], "", [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.ids += [value for key, value in attributes if key == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.ids += [value for key, value in attributes if key == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def html(full_report) -> str:
    return render(to_json(full_report))


@pytest.fixture(scope="module")
def joined_html(joined_report) -> str:
    return render(to_json(joined_report))


@pytest.fixture(scope="module")
def page(html) -> Page:
    return Page(html)


def test_page_describes_the_data_and_warns_about_them(html, full_report):
    """Remarks and warnings stand before the contract, the series of each class at the end."""
    page = Page(html)

    (warning,) = full_report.data.warnings
    assert page.text.index("'1' and '1.0' are one class.") < page.text.index(warning)
    assert page.text.index(warning) < page.text.index("Contract\n")
    assert "1.3 % of all values, in 3 series" in page.text
    assert page.text.index("Series of each class") > page.text.index("Data and environment")
    assert ("details", {"open": None}) in page.tags


def test_page_without_remarks_and_warnings(full_report):
    """There is no heading without text."""
    data = replace(full_report.data, remarks=(), warnings=())

    assert "About the data" not in render(to_json(replace(full_report, data=data)))


def test_many_classes_are_folded(full_report):
    """A reader opens the table of more than twelve."""
    names = tuple(f"c{k}" for k in range(13))
    counts = {name: {"train": 4, "validation": 1, "test": 5} for name in names}
    data = replace(full_report.data, classes=13, class_names=names, series_per_class=counts)

    page = Page(render(to_json(replace(full_report, data=data))))

    assert ("details", {}) in page.tags
    assert "c12" in page.text


def test_page_is_well_formed(page):
    """Every tag is closed, ids are unique, sections have their headings."""
    headings = [tag for tag, _ in page.tags if tag in {"h1", "h2", "h3"}]

    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)
    assert headings[0] == "h1"
    assert headings.count("h1") == 1
    assert headings.count("h2") == 7


FACTS = """Kept · int8 is 560× smaller and 4.00× faster · 1.07 MB · 84.7 to 94.7 % · 38.0 µs · kept
teacher 152 µs in ONNX Runtime · undecided · ≥ 90.0 % · Confusion, teacher · Worst agreement
ceiling · Validation accuracy · Calibration · 150 time steps · x86_64, 2 cores · 5f5f5f"""


@pytest.mark.parametrize("fact", re.split(" · |\n", FACTS))
def test_page_has_each_fact(fact, page):
    """Each part of the report is on the page."""
    assert fact in " ".join(page.text.split())


def test_page_has_every_count(full_report, page):
    """The confusion matrices are tables, cell by cell."""
    cells = [a["style"] for tag, a in page.tags if tag == "td" and "style" in a]

    assert len(cells) == 8
    assert all(re.fullmatch(r"--strength: \d+%", style) for style in cells)


def test_agreement_is_one_tile(page):
    """Agreement under the unseen plan is a row of the table, not a second tile."""
    assert page.text.count("Saliency Pearson") == 1
    assert "Unseen plan" in page.text


def test_drawings_have_descriptions(page):
    """For screen readers."""
    labels = [a.get("aria-label", "") for _, a in page.tags if a.get("role") == "img"]

    assert len(labels) == 10
    assert all(len(label) > 40 for label in labels)


def test_page_fetches_nothing(html, page):
    """It opens offline: references point into the page, and there is no script."""
    assert _fetches(page, html) == []


@pytest.mark.parametrize(
    "planted",
    [
        '<img src="x.png">',
        '<a href="https://example.org">x</a>',
        "<style>a{background:url(x.png)}</style>",
        "<style>@import 'x.css'</style>",
        "<script>1</script>",
    ],
)
def test_check_of_references_can_fail(planted):
    """The check above finds each way to leave the page."""
    assert _fetches(Page(planted), planted)


def test_figures_have_the_colors_of_the_page(html):
    """No drawing has a color of its own, so light and dark are both right."""
    drawings = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)

    assert drawings
    for drawing in drawings:
        assert not re.search(r"(fill|stroke): *#", drawing)
    assert "prefers-color-scheme: dark" in html


def test_texts_are_escaped(full_report):
    """On the page and in drawings."""
    example = replace(full_report.examples[0], label=EVIL, title=EVIL)
    chosen = replace(full_report.judged_candidate(), name=EVIL, runtime=EVIL)
    report = replace(
        full_report,
        name=EVIL,
        reasons=(EVIL,),
        environment={EVIL: EVIL},
        data=replace(full_report.data, class_names=(EVIL, "b")),
        confusion=replace(full_report.confusion, labels=(EVIL, "b")),
        candidates=(chosen,),
        chosen=EVIL,
        references={EVIL: full_report.references["floor"]},
        examples=(example,),
    )

    html = render(to_json(report))

    page = Page(html)
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count(EVIL) >= 10


@pytest.mark.parametrize("name", ["$x$ \\frac", "日本語", "v1.23456 #010203", 'a id="b'])
def test_names_are_drawn_unchanged(name, full_report):
    """No formula, no missing glyph, no rounding, no recoloring inside a name."""
    chosen = replace(full_report.judged_candidate(), name=name)

    html = render(to_json(replace(full_report, candidates=(chosen,), chosen=name)))

    drawings = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert Page(drawings).text.count(name) == 3


def test_equal_reports_give_equal_pages(full_report, html):
    """Independent of clock, randomness and process."""
    again = subprocess.run(
        [sys.executable, "-c", _RENDER], input=repr(to_json(full_report)), capture_output=True,
        text=True, encoding="utf-8", check=True,
    )  # fmt: skip

    assert again.stdout == html


def test_matplotlib_settings_of_the_user_have_no_effect(full_report, html):
    """They are neither used nor changed."""
    import matplotlib

    with matplotlib.rc_context({"lines.linewidth": 9.0, "svg.fonttype": "path"}):
        again = render(to_json(full_report))

        assert matplotlib.rcParams["lines.linewidth"] == 9.0
    assert again == html


def test_page_of_a_broken_contract_has_reasons(board_report):
    """Verdict, reasons and failed clause; absent parts have no section."""
    page = Page(render(to_json(board_report)))

    assert "Saliency agreement (Pearson) is 0.610, 0.140 below" in page.text
    assert ("span", {"class": "verdict"}) in page.tags
    assert ("span", {"class": "chosen"}) not in page.tags
    assert ("span", {"class": "outcome fail"}) in page.tags
    assert [a["id"] for tag, a in page.tags if tag == "h2"] == ["contract", "models", "origin"]
    assert not [a for _, a in page.tags if a.get("role") == "img"]


JOINED = """engine on orin · engine on pi-5 · 71.2 MiB · 412 ms · onnxruntime 1.23.2
59.0 at most · none was seen · Latency p95 is 0.36 ms, 0.16 ms above
The machine slowed down while it was measured. In 2 of 2 readings: cpufreq-cpu0"""


@pytest.mark.parametrize("fact", re.split(" · |\n", JOINED))
def test_joined_page_has_each_fact(fact, joined_html):
    """Measurements, telemetry and verdict of each board."""
    assert fact in " ".join(Page(joined_html).text.split())


def test_joined_page_is_well_formed(joined_html):
    """Closed tags, unique ids of drawings, no references; the outcome is on top."""
    page = Page(joined_html)

    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)
    assert _fetches(page, joined_html) == []
    assert page.text.index("pi-5") < page.text.index("Contract")
    assert "On the boards" in page.text


def test_page_of_a_boards_own_report(orin_report):
    """It has figures of its sensors, without a label."""
    page = Page(render(to_json(orin_report)))

    assert [a["id"] for tag, a in page.tags if tag == "h2"] == [
        *("contract", "models", "machine", "origin"),
    ]
    assert "15W (0)" in page.text
    assert len([a for _, a in page.tags if a.get("role") == "img"]) == 3


def test_labels_and_sensors_are_escaped(joined_report):
    """On the page and in drawings."""
    board = joined_report.boards[0]
    sensors = replace(
        board.report.telemetry,
        settings={EVIL: EVIL},
        temperature_c={EVIL: [1.0, 2.0, 3.0, 4.0]},
        throttling=(EVIL,),
    )
    evil = replace(board, label=EVIL, report=replace(board.report, telemetry=sensors))

    page = Page(render(to_json(replace(joined_report, boards=(evil,)))))

    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count(EVIL) >= 7


def test_page_of_the_smallest_report(board_report):
    """A report with a verdict alone."""
    least = replace(board_report, contract=(), candidates=(), environment={}, reasons=())

    page = Page(render(to_json(least)))

    assert "No variant keeps the contract." in page.text


def test_degenerate_facts_are_drawn(full_report):
    """Constant maps, empty rows, external models, values without an interval."""
    example = full_report.examples[0]
    flat = replace(example, teacher_map=[0.0] * len(example.teacher_map))
    report = replace(
        full_report,
        examples=(flat,),
        curves=Curves(),
        confusion=Confusion(labels=("a", "b"), teacher=[[0, 0]] * 2, student=[[0, 0]] * 2),
        calibration=replace(full_report.calibration, teacher=(), student=()),
    )

    page = Page(render(to_json(report)))

    assert "Training" not in page.text


def test_many_channels_and_classes(full_report, rng):
    """Fifteen classes and six channels."""
    labels = tuple(f"class {i}" for i in range(15))
    matrix = rng.integers(0, 9, (15, 15)).tolist()
    example = full_report.examples[0]
    series = np.tile(example.series, (6, 1)).tolist()
    report = replace(
        full_report,
        confusion=Confusion(labels=labels, teacher=matrix, student=matrix),
        examples=(replace(example, series=series),),
    )

    page = Page(render(to_json(report)))

    assert ("table", {"class": "confusion teacher many"}) in page.tags


def test_malformed_report_is_refused(full_report):
    """Facts are checked before the page is drawn."""
    with pytest.raises(DataError, match="report has a key 'extra'"):
        render({**to_json(full_report), "extra": 1})


def test_import_needs_neither_jinja2_nor_matplotlib():
    """A board without either can still write its report."""
    code = (
        "import sys; sys.modules['jinja2'] = sys.modules['matplotlib'] = None\n"
        "import edgedistill.report, edgedistill.report.html, edgedistill.report.markdown"
    )

    subprocess.run([sys.executable, "-c", code], check=True)


_RENDER = """
import ast, sys
from edgedistill.report.html import render
sys.stdin.reconfigure(encoding="utf-8"); sys.stdout.reconfigure(encoding="utf-8")
sys.stdout.write(render(ast.literal_eval(sys.stdin.read())))
"""


def _fetches(page: Page, html: str) -> list[str]:
    """Return everything in a page that would make a browser fetch or run something."""
    found = [tag for tag, _ in page.tags if tag in {"script", "link", "iframe", "object", "base"}]
    for _, attributes in page.tags:
        for key, value in attributes.items():
            if key in {"src", "srcset", "href", "xlink:href", "data"} and value[0] != "#":
                found.append(value)
    found += re.findall(r"url\((?!#)[^)]*\)", html) + re.findall(r"@import|https?://", html)
    return found
