"""The report as one HTML page that opens anywhere, offline: no script, no font, nothing fetched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from edgedistill.evaluation.contract import ContractClause
from edgedistill.report import boards, verdict
from edgedistill.report import format as fmt
from edgedistill.report.data import SPLITS, class_rows, data_rows
from edgedistill.report.encoding import from_json
from edgedistill.report.facts import Confusion, Data, Report, SpeedComparison
from edgedistill.report.svg import STUDENT, TEACHER

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

_SHARED = ("parts.html.j2", "report.css")
_STRONGEST = 45  # percent of color in a full cell; ink stays readable on it, light and dark


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing with title and caption, which a screen reader gets too."""

    drawing: Markup
    title: str
    caption: str


@dataclass(frozen=True, slots=True)
class Tile:
    """One number of the chosen variant beside the teacher's."""

    label: str
    value: str
    before: str


def render(report: Mapping[str, Any]) -> str:
    """Render a report, as of `to_json`, as a page; equal reports give equal pages.

    Raises:
        IntegrityError: another version of the format.
        DataError: the report is malformed.
    """
    facts = from_json(report)
    return template("report.html.j2").render(
        report=facts,
        fmt=fmt,
        tiles=_tiles(facts),
        verdict=verdict,
        sections=[
            (section.title, [(clause, _bar_positions(clause)) for clause in section.clauses])
            for section in verdict.contract_sections(facts)
            if section.clauses
        ],
        variants=verdict.variant_rows(facts),
        columns=boards.models(facts),
        groups=fmt.measured_rows(facts.models()),
        trade_offs=_trade_offs(facts),
        reasons=_reasons(facts),
        examples=_examples(facts),
        matrices=_matrices(facts.confusion),
        calibration=_calibration(facts),
        training=_training(facts),
        **_data(facts.data),
        **_machines(facts),
    )


def template(name: str, package: str = "edgedistill.report") -> Template:
    """Load a template, which may use the macros and the style that all pages share.

    Args:
        name: name of the template's file.
        package: package that holds the file.
    """
    import jinja2

    ours = resources.files("edgedistill.report")
    sources = {shared: ours.joinpath(shared).read_text("utf-8") for shared in _SHARED}
    sources[name] = resources.files(package).joinpath(name).read_text("utf-8")
    environment = jinja2.Environment(
        loader=jinja2.DictLoader(sources),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def non_empty(*candidates: tuple[str, str, str]) -> list[Figure]:
    """Figures of the candidates whose drawing is not empty."""
    from markupsafe import Markup

    # The drawings are ours, and Matplotlib escapes every text it is given.
    return [
        Figure(drawing=Markup(drawing), title=title, caption=caption)  # noqa: S704
        for drawing, title, caption in candidates
        if drawing
    ]


def _tiles(report: Report) -> list[Tile]:
    model = report.judged_candidate()
    if model is None:
        return []
    labels = ("File size", "Latency p50", "Accuracy", "Agreement", "Pearson")
    rows = [row for rows in fmt.ROWS.values() for row in rows if row.label in labels]
    tiles = []
    for row in rows:
        value, bounds = fmt.cell(row, model)
        if value == fmt.NOT_MEASURED:
            continue
        before = fmt.cell(row, report.teacher)[0] if report.teacher else fmt.NOT_MEASURED
        if row.label == "Latency p50" and report.speed is not None:
            value, before = _times(report.speed)
        note = bounds if before == fmt.NOT_MEASURED else f"teacher {before}"
        label = {"Pearson": "Saliency Pearson"}.get(row.label, row.label)
        tiles.append(Tile(label=label, value=value, before=note))
    return tiles


def _times(speed: SpeedComparison) -> tuple[str, str]:
    """Median times of the model and its teacher in one run; the runtime of the latter is named."""
    shared = speed.teacher_ms or speed.native_ms
    runtime = speed.runtime if speed.teacher_ms else speed.native_runtime
    model = fmt.milliseconds(speed.model_ms.value)
    if shared is None:
        return model, fmt.NOT_MEASURED
    return model, f"{fmt.milliseconds(shared.value)} in {fmt.runtime_label(runtime)}"


def _bar_positions(clause: ContractClause) -> dict[str, float]:
    """Positions of interval, value and threshold, in percent of a bar's width."""
    points = (clause.measured.low, clause.measured.value, clause.measured.high, clause.threshold)
    start, span = min(points), max(points) - min(points)
    names = ("low", "value", "high", "threshold")
    if span == 0:
        return dict.fromkeys(names, 50.0)
    return {n: round(10 + 80 * (p - start) / span, 2) for n, p in zip(names, points, strict=True)}


def _trade_offs(report: Report) -> list[Figure]:
    from edgedistill.report import figures

    teacher = " Dashed: the teacher." if report.teacher else ""
    end = f"with 95 % intervals. The upper left is best. In color: the chosen variant.{teacher}"
    return non_empty(
        (
            figures.size_against_agreement(report),
            "Size against agreement",
            "File size, logarithmic, against the share of series on which teacher and model agree, "
            + end,
        ),
        (
            figures.latency_against_agreement(report),
            "Latency against agreement",
            "Median time for one series, logarithmic, against the same share, " + end,
        ),
    )


def _reasons(report: Report) -> list[Figure]:
    from edgedistill.report import figures

    references = "".join(
        f" {name.capitalize()}: {meaning}."
        for name, meaning in (
            ("floor", "an untrained student"),
            ("ceiling", "a second teacher from another seed"),
        )
        if report.references and name in report.references
    )
    return non_empty(
        (
            figures.saliency_agreement(report),
            "Saliency agreement",
            "How alike the signed saliency maps of teacher and model are, with 95 % intervals; "
            f"1 is the same map.{references}",
        )
    )


def _examples(report: Report) -> list[Figure]:
    from edgedistill.report import figures

    return non_empty(
        *(
            (
                figures.overlay(example),
                example.title.capitalize(),
                f"Test series {example.index} of class {example.label}: the teacher says "
                f"{example.teacher_class}, the student {example.student_class}. "
                f"Pearson of the maps {fmt.decimals(example.pearson)}.",
            )
            for example in report.examples
        )
    )


def _calibration(report: Report) -> list[Figure]:
    from edgedistill.report import figures

    if report.calibration is None:
        return []
    return non_empty(
        (
            figures.reliability(report.calibration.teacher, report.calibration.student),
            "Calibration",
            "Accuracy against confidence; a larger dot holds more series. On the diagonal a model "
            "is right as often as it says.",
        )
    )


def _training(report: Report) -> list[Figure]:
    from edgedistill.report import figures

    if report.curves is None:
        return []
    teacher, student = report.curves.teacher, report.curves.student
    loss = "Loss over epochs: dashed on training data, solid on validation data."
    return non_empty(
        (figures.losses("teacher", teacher, TEACHER), "Teacher", loss),
        (figures.losses("student", student, STUDENT), "Student", loss),
        (
            figures.validation_accuracy(teacher, student),
            "Validation accuracy",
            "Share of validation series that are right, over epochs.",
        ),
    )


def _data(data: Data | None) -> dict[str, Any]:
    """Template variables of the data."""
    return {
        "splits": list(SPLITS.values()),
        "data_rows": [] if data is None else data_rows(data),
        "class_rows": [] if data is None else class_rows(data),
    }


def _machines(report: Report) -> dict[str, Any]:
    """Template variables of boards, and of the machine of a board's own report."""
    return {
        "boards": boards,
        "outcomes": [
            (board, _telemetry_figures(board.report, f"board {at}"))
            for at, board in enumerate(report.boards)
        ],
        "machine_figures": _telemetry_figures(report, "machine"),
    }


def _telemetry_figures(report: Report, name: str) -> list[Figure]:
    from edgedistill.report import figures

    if report.telemetry is None:
        return []
    return non_empty(*figures.telemetry_figures(name, report.telemetry))


def _matrices(confusion: Confusion | None) -> list[tuple[str, list[list[tuple[int, int]]]]]:
    """Counts of teacher and student, each with the strength of its color in percent."""
    if confusion is None:
        return []
    matrices = []
    for name, matrix in (("teacher", confusion.teacher), ("student", confusion.student)):
        rows = [
            [(count, round(_STRONGEST * count / max(1, sum(row)))) for count in row]
            for row in matrix
        ]
        matrices.append((name, rows))
    return matrices
