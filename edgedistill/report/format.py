"""Format numbers, clauses and outcomes, the same in Markdown and on the page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgedistill.evaluation.contract import ContractClause
from edgedistill.evaluation.metrics import Estimate
from edgedistill.report.facts import Candidate, Int8Arithmetic, Report, SpeedComparison, Sums

NOT_MEASURED = "–"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table of models: how to get a value, and how to write it."""

    label: str
    note: str  # the unit or the direction
    value: Callable[[Candidate], Estimate | float | None]
    write: Callable[[float], str]


def format_count(value: float) -> str:
    """Format a whole number with groups of three digits.

    >>> format_count(203002)
    '203,002'
    """
    return f"{value:,.0f}"


def format_size(value: float) -> str:
    """Format bytes in decimal units.

    >>> format_size(812), format_size(12_345), format_size(2_500_000)
    ('812 B', '12.3 kB', '2.50 MB')
    """
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= scale:
            return f"{_three_digits(value / scale)} {unit}"
    return f"{value:.0f} B"


def milliseconds(value: float) -> str:
    """Format milliseconds in µs, ms or s.

    >>> milliseconds(0.0421), milliseconds(3.14159), milliseconds(2500)
    ('42.1 µs', '3.14 ms', '2.50 s')
    """
    if value < 1:
        return f"{_three_digits(value * 1e3)} µs"
    return f"{_three_digits(value)} ms" if value < 1e3 else f"{_three_digits(value / 1e3)} s"


def percent(value: float) -> str:
    """Format a share as a percentage.

    >>> percent(0.9871)
    '98.7 %'
    """
    return f"{_signed(100 * value, 1)} %"


def points(value: float) -> str:
    """Format a difference of shares in percentage points.

    >>> points(-0.013)
    '−1.3 pp'
    """
    return f"{_signed(100 * value, 1)} pp"


def decimals(value: float) -> str:
    """Format a score with three decimals.

    >>> decimals(-0.12345), decimals(-0.0001)
    ('−0.123', '0.000')
    """
    return _signed(value, 3)


def scientific(value: float) -> str:
    """Format a small error.

    >>> scientific(0.0001)
    '1.0e-04'
    """
    return f"{value:.1e}"


def format_ratio(larger: float, smaller: float) -> str:
    """Format a ratio.

    >>> format_ratio(1000, 80), format_ratio(3, 2)
    ('12.5×', '1.50×')
    """
    return f"{_three_digits(larger / smaller)}×"


ROWS: dict[str, tuple[Row, ...]] = {
    "Cost": (
        Row("Parameters", "", lambda c: c.parameters, format_count),
        Row("File size", "", lambda c: c.size_bytes, format_size),
        Row(
            "Latency p50",
            "one series",
            lambda c: c.latency_ms.p50 if c.latency_ms else None,
            milliseconds,
        ),
        Row(
            "Latency p95",
            "one series",
            lambda c: c.latency_ms.p95 if c.latency_ms else None,
            milliseconds,
        ),
        Row(
            "Latency p99",
            "one series",
            lambda c: c.latency_ms.p99 if c.latency_ms else None,
            milliseconds,
        ),
        Row(
            "Throughput",
            "series a second, best batch",
            lambda c: c.costs.best_series_per_s if c.costs else None,
            format_count,
        ),
        Row(
            "Peak memory",
            "of a fresh process",
            lambda c: c.costs.peak_mib if c.costs else None,
            lambda mib: f"{mib:.1f} MiB",
        ),
        Row(
            "Cold start",
            "to the first answer",
            lambda c: c.costs.cold_start_ms if c.costs else None,
            milliseconds,
        ),
    ),
    "Predictions": (
        Row("Accuracy", "", lambda c: c.metrics.accuracy, percent),
        Row("AUC-PRC", "macro", lambda c: c.metrics.auc_prc, decimals),
        Row("ROC-AUC", "macro", lambda c: c.metrics.roc_auc, decimals),
        Row("Agreement", "with the teacher", lambda c: c.metrics.agreement, percent),
        Row("KL", "from the teacher, nats", lambda c: c.metrics.kl, decimals),
        Row("Calibration error", "ECE", lambda c: c.metrics.ece, decimals),
    ),
    "Reasons": (
        Row("Pearson", "of saliency maps", lambda c: c.metrics.saliency.pearson, decimals),
        Row("Spearman", "of saliency maps", lambda c: c.metrics.saliency.spearman, decimals),
        Row("Unseen plan", "Pearson of maps", lambda c: c.metrics.saliency.unseen, decimals),
        Row("Top tenth", "shared, same sign", lambda c: c.metrics.saliency.topk, decimals),
    ),
}

_RUNTIMES = {"onnxruntime": "ONNX Runtime", "tensorrt": "TensorRT", "sklearn": "scikit-learn"}
_SUMS: dict[Sums, str] = {
    "exact": "exact sums",
    "saturating": "sums that saturate in 16 bits",
}
_CLAUSES: dict[str, tuple[str, Callable[[float], str]]] = {
    "accuracy_drop": ("Accuracy lost against the teacher", points),
    "agreement": ("Agreement with the teacher", percent),
    "kl": ("KL from the teacher, nats", decimals),
    "saliency_pearson": ("Saliency agreement, Pearson", decimals),
    "saliency_spearman": ("Saliency agreement, Spearman", decimals),
    "size_bytes": ("File size", format_size),
    "latency_p95_ms": ("Latency p95", milliseconds),
    "fidelity_logit_error": ("Largest logit error against the student", scientific),
    "fidelity_saliency_error": ("Largest saliency error against the student", scientific),
}


def emulation(models: tuple[Candidate, ...]) -> str:
    """Note about models that ran as an emulation; empty if none did."""
    names = [m.name for m in models if m.runtime == "tensorrt" and m.latency_ms is None]
    if not names:
        return ""
    return (
        f"Emulated on a CPU: {', '.join(names)}. Their answers carry the device's rounding; their "
        "latency is for the board to measure."
    )


def notes(report: Report) -> list[str]:
    """Sentences about how the models of a report were run and timed."""
    speed = [] if report.speed is None else [speed_note(report.speed)]
    return [*filter(None, [emulation(report.models())]), *speed, *int8_notes(report.models())]


def int8_notes(models: tuple[Candidate, ...]) -> list[str]:
    """Sentences about the sums that INT8 was measured and timed with; one for each kind of them."""
    names: dict[Int8Arithmetic, list[str]] = {}
    for model in models:
        if model.int8 is not None:
            names.setdefault(model.int8, []).append(model.name)
    return [f"INT8 ({', '.join(group)}): {int8_note(sums)}" for sums, group in names.items()]


def int8_note(int8: Int8Arithmetic) -> str:
    """Sentence about the sums that a model was measured and timed with.

    >>> int8_note(Int8Arithmetic(measured="exact", timed="exact", instructions="AVX-VNNI"))
    'quality with exact sums of 8-bit products; speed on AVX-VNNI, with exact sums.'
    """
    speed = "not timed" if int8.timed is None else f"speed {int8_speed(int8)}"
    return f"quality with {_SUMS[int8.measured]} of 8-bit products; {speed}."


def int8_speed(int8: Int8Arithmetic) -> str:
    """Instructions and sums that a model was timed with.

    >>> int8_speed(Int8Arithmetic(measured="exact", timed="exact", instructions="AVX-VNNI"))
    'on AVX-VNNI, with exact sums'
    """
    return f"on {int8.instructions}, with {_SUMS[int8.timed or int8.measured]}"


def measured_rows(models: tuple[Candidate, ...]) -> dict[str, tuple[Row, ...]]:
    """Rows that at least one model has a value for, by group."""
    groups = {
        group: tuple(r for r in rows if any(r.value(m) is not None for m in models))
        for group, rows in ROWS.items()
    }
    return {group: rows for group, rows in groups.items() if rows}


def cell(row: Row, model: Candidate) -> tuple[str, str]:
    """Format a value and its interval; the interval is empty for a value without one."""
    value = row.value(model)
    if value is None:
        return NOT_MEASURED, ""
    if isinstance(value, Estimate):
        return row.write(value.value), interval(value, row.write)
    return row.write(value), ""


def interval(estimate: Estimate, write: Callable[[float], str]) -> str:
    """Format a 95 % interval; a unit that both ends share is written once.

    >>> interval(Estimate(0.9, 0.85, 0.953), percent)
    '85.0 to 95.3 %'
    """
    low, high = write(estimate.low), write(estimate.high)
    number, _, unit = low.partition(" ")
    if unit and high.endswith(f" {unit}"):
        low = number
    return f"{low} to {high}"


def clause_label(clause: ContractClause) -> str:
    """Title of a clause."""
    formatting = _CLAUSES.get(clause.name)
    return formatting[0] if formatting else clause.name.replace("_", " ").capitalize()


def clause_number(clause: ContractClause) -> Callable[[float], str]:
    """Function that formats the numbers of a clause."""
    formatting = _CLAUSES.get(clause.name)
    return formatting[1] if formatting else decimals


def threshold(clause: ContractClause) -> str:
    """Format the threshold with its sign."""
    sign = {">=": "≥", "<=": "≤"}[clause.comparison]
    return f"{sign} {clause_number(clause)(clause.threshold)}"


def clause_interval(clause: ContractClause) -> str:
    """Format the interval of the measured value; empty for a value without one."""
    measured = clause.measured
    return "" if measured.low == measured.high else interval(measured, clause_number(clause))


def outcome(clause: ContractClause) -> str:
    """Outcome "kept" or "broken", "undecided" too if the interval holds the threshold."""
    word = "kept" if clause.passed else "broken"
    return word if clause.decided else f"{word}, undecided"


def headline(report: Report) -> str:
    """Outcome of a report in one or two sentences."""
    model = report.judged_candidate()
    if report.verdict == "broken":
        if model is None:
            return "No variant keeps the contract."
        failed = sum(not clause.passed for clause in report.contract)
        return f"{model.name} breaks {failed} of the contract's {len(report.contract)} clauses."
    if model is None:
        return "Every clause of the contract holds."
    gains = _gains(report, model)
    text = f"{model.name} is {gains}. " if gains else ""
    agreement = model.metrics.agreement
    if agreement is not None:
        series = f"{report.data.test} test series" if report.data else "the series"
        subject = "It" if text else model.name
        text += f"{subject} names the teacher's class for {percent(agreement.value)} of {series}."
    return text.strip() or f"{model.name} keeps the contract."


def speed_note(speed: SpeedComparison) -> str:
    """Sentence about how a model and its teacher were timed."""
    here = runtime_label(speed.runtime)
    times = [f"{speed.model} {milliseconds(speed.model_ms.value)}"]
    if speed.teacher_ms is not None:
        times.append(f"the teacher {milliseconds(speed.teacher_ms.value)}")
    note = f"Speed: one series a call on one thread, in alternation: in {here} {', '.join(times)}"
    if speed.native_ms is not None:
        native = runtime_label(speed.native_runtime)
        note += f"; in {native} the teacher {milliseconds(speed.native_ms.value)}"
    return f"{note}." + (f" Not exported: {speed.reason}" if speed.reason else "")


def runtime_label(runtime: str) -> str:
    """Name of a runtime for people.

    >>> runtime_label("onnxruntime"), runtime_label("torch")
    ('ONNX Runtime', 'torch')
    """
    return _RUNTIMES.get(runtime, runtime)


def _gains(report: Report, model: Candidate) -> str:
    """How much smaller and faster than its teacher a model is; the runtimes of times are named."""
    teacher, speed = report.teacher, report.speed
    size = ""
    if teacher and teacher.size_bytes and model.size_bytes:
        size = _gain(teacher.size_bytes, model.size_bytes, "smaller", "larger")
    if speed is None or speed.model != model.name or speed.model_ms.value <= 0:
        return f"{size} than the teacher" if size else ""
    return " and ".join(filter(None, [size, _speed_gain(speed)]))


def _speed_gain(speed: SpeedComparison) -> str:
    here, native = runtime_label(speed.runtime), runtime_label(speed.native_runtime)
    gains = {
        place: _gain(time.value, speed.model_ms.value, "faster", "slower")
        for place, time in ((here, speed.teacher_ms), (native, speed.native_ms))
        if time is not None
    }
    if speed.teacher_ms is None:
        return f"{gains[native]} than the teacher in {native}, which has no export to {here}"
    beside = "" if speed.native_ms is None else f" ({gains[native]} than the teacher in {native})"
    return f"{gains[here]} than the teacher, both in {here}{beside}"


def _gain(before: float, after: float, better: str, worse: str) -> str:
    if after <= before:
        return f"{format_ratio(before, after)} {better}"
    return f"{format_ratio(after, before)} {worse}"


def _signed(value: float, places: int) -> str:
    """Format a number with a true minus sign, and zero without any."""
    text = f"{value:.{places}f}".replace("-", "−")
    return text.removeprefix("−") if float(text.replace("−", "-")) == 0 else text


def _three_digits(value: float) -> str:
    places = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{places}f}"
