"""Measured facts, each with its unit.

The workstation fills every part, a board the parts that it can measure. `None` always
means "not measured". Records are in tuples, arrays of numbers in lists, as of
`ndarray.tolist()`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from edgedistill.errors import DataError, ShapeError
from edgedistill.evaluation.contract import ContractClause, Verdict
from edgedistill.evaluation.metrics import Estimate
from edgedistill.formats.schema import ColumnRole, TestOrigin

FORMAT: Final = "edgedistill.report/1"
Sums: TypeAlias = Literal["exact", "saturating"]  # of 8-bit products: whole, or pairs in 16 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Saliency:
    """Agreement of a model's signed saliency maps with the teacher's, the mean over series."""

    spearman: Estimate | None = None  # rank correlation, -1 to 1
    pearson: Estimate | None = None  # correlation, -1 to 1
    topk: Estimate | None = None  # share of the strongest tenth shared with its sign, 0 to 1
    unseen: Estimate | None = None  # correlation under a plan that nothing was tuned to, -1 to 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """How well a model predicts, and how well it matches the teacher."""

    accuracy: Estimate | None = None  # 0 to 1
    auc_prc: Estimate | None = None  # macro average, 0 to 1
    roc_auc: Estimate | None = None  # macro average, 0 to 1
    agreement: Estimate | None = None  # share of series with the teacher's class, 0 to 1
    kl: Estimate | None = None  # mean KL(teacher || model), nats
    ece: Estimate | None = None  # expected calibration error, 0 to 1
    saliency: Saliency = field(default_factory=Saliency)


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Time for one series, in milliseconds."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Throughput, memory and cold start of a model on a machine."""

    series_per_s: float  # one after the other
    best_batch: int  # series in one call, at the highest throughput
    best_series_per_s: float
    peak_mib: float | None = None  # resident memory of a fresh process with the model alone
    bare_mib: float | None = None  # of a process with Python, NumPy and the runtime alone
    cold_start_ms: float | None = None  # from a process's start to its first result, the median


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Arithmetic:
    """Sums of 8-bit products of a model on a CPU, where it was measured and where it was timed."""

    measured: Sums  # in the session that the metrics are of
    timed: Sums | None  # in the session that the latency is of; None: not timed
    instructions: str  # of the processor, such as "AVX2 without VNNI"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One model as it runs somewhere: the teacher, the student, or a variant of it."""

    name: str  # unique in a report
    runtime: str  # "torch", "onnxruntime", "tensorrt", ...
    precision: str  # "fp32", "fp16", "bf16", "int8", "w8a16"
    parameters: int | None = None  # None: unknown
    size_bytes: int | None = None  # of the model file
    metrics: Metrics = field(default_factory=Metrics)
    latency_ms: Latency | None = None
    costs: Costs | None = None
    int8: Int8Arithmetic | None = None  # None: no 8-bit products, or not on a CPU


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedComparison:
    """Median times for one series of a model and its teacher.

    They were timed in alternation in one run: on one thread, one series a call.
    """

    model: str  # name of the candidate
    runtime: str  # of the model
    model_ms: Estimate
    teacher_ms: Estimate | None  # in the runtime of the model; None: it cannot run there
    native_runtime: str  # of the teacher as it was trained or brought
    native_ms: Estimate | None  # there; None: that is the runtime of the model
    reason: str | None = None  # why the teacher cannot run in the runtime of the model


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """The series, in the form of the models' inputs."""

    name: str
    classes: int  # K
    class_names: tuple[str, ...]  # K names, in the order of the logits
    train: int  # series
    validation: int  # series
    test: int  # series
    length: int  # T, time steps
    channels: int  # C
    fingerprint: str  # SHA-256 of the arrays, hex
    series_per_class: dict[str, dict[str, int]] | None = None  # class to split to count
    shortest: int | None = None  # time steps, as recorded
    longest: int | None = None  # time steps, as recorded
    missing_share: float | None = None  # of the recorded values, 0 to 1
    missing_series: dict[str, int] | None = None  # class to series with missing values, no zeros
    flat_series: int | None = None  # constant in every channel once normalized
    flat_channels: tuple[int, ...] | None = None  # from 0; constant in every training series
    unresolved_series: int | None = None  # whose variation is lost in float32 at their offset
    test_origin: TestOrigin | None = None
    test_file: str | None = None  # name of the file or folder; None: drawn, or not recorded
    columns: tuple[ColumnRole, ...] = ()  # of a table, and what each was taken for
    remarks: tuple[str, ...] = ()  # of the readers, such as labels that are one class
    warnings: tuple[str, ...] = ()  # what was seen, and the next step

    def __post_init__(self) -> None:
        if len(self.class_names) != self.classes:
            raise ShapeError(
                f"Got {len(self.class_names)} class names for {self.classes} classes. "
                "Give one name a class."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One pass over the training series; losses are means, in nats for cross-entropy."""

    epoch: int  # from 1
    train_loss: float
    validation_loss: float | None = None
    validation_accuracy: float | None = None  # 0 to 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """Training curves; empty for an external model, which was not trained here."""

    teacher: tuple[Epoch, ...] = ()
    student: tuple[Epoch, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """Counts of series, (K, K): a row is a true class, a column a predicted one."""

    labels: tuple[str, ...]
    teacher: list[list[int]]
    student: list[list[int]]

    def __post_init__(self) -> None:
        size = len(self.labels)
        for owner, matrix in (("teacher", self.teacher), ("student", self.student)):
            widths = [len(row) for row in matrix]
            if widths != [size] * size:
                raise ShapeError(
                    f"The {owner}'s confusion matrix has rows of {widths} for {size} labels. "
                    f"Give {size} rows of {size} counts."
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """The predictions of one range of confidence."""

    confidence: float  # mean probability of the top class, 0 to 1
    accuracy: float  # share that was right, 0 to 1
    count: int  # series


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Confidence against accuracy; bins without a series are left out."""

    teacher: tuple[Bin, ...]
    student: tuple[Bin, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One real series with the saliency of teacher and student, a value a time step."""

    title: str  # "best agreement", "median agreement", "worst agreement"
    index: int  # in the test set
    label: str  # true class
    teacher_class: str
    student_class: str
    pearson: float  # of the two maps
    series: list[list[float]]  # (C, T)
    teacher_map: list[float]  # (T,)
    student_map: list[float]  # (T,)

    def __post_init__(self) -> None:
        lengths = {len(channel) for channel in self.series}
        lengths |= {len(self.teacher_map), len(self.student_map)}
        if len(lengths) != 1 or 0 in lengths or not self.series:
            raise ShapeError(
                f"Example {self.index} has channels of {[len(c) for c in self.series]} steps and "
                f"maps of {len(self.teacher_map)} and {len(self.student_map)}. "
                "Give every channel and both maps the same T values."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """Sensor readings: the first before a measurement, the last after it, the others during it.

    Every sensor has a value for each time in `at_s`; None where it could not be read.
    """

    at_s: list[float]  # seconds since the first
    settings: dict[str, str]  # such as the power mode and the CPU's governor
    temperature_c: dict[str, list[float | None]]  # degrees Celsius, by thermal zone
    clock_mhz: dict[str, list[float | None]]
    power_mw: dict[str, list[float | None]]  # by rail
    clock_limit_mhz: float | None = None  # of the CPU, before the measurement
    throttling: tuple[str, ...] | None = None  # sentences; (): none seen; None: not measurable

    def __post_init__(self) -> None:
        for values in (self.temperature_c, self.clock_mhz, self.power_mw):
            for name, series in values.items():
                if len(series) != len(self.at_s):
                    raise ShapeError(
                        f"The sensor {name!r} has {len(series)} values for {len(self.at_s)} times. "
                        "Give one value a time."
                    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NextStep:
    """Something that would help where the contract is broken, or its verdict undecided."""

    reason: str  # a sentence
    settings: tuple[str, ...]  # `a.b=value` of the recipe, to run it again with


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantClauses:
    """The clauses of one variant."""

    candidate: str  # its name
    clauses: tuple[ContractClause, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A board's report of the model as it runs there."""

    label: str  # such as the host; chosen by a person, never by the board itself
    report: Report

    def __post_init__(self) -> None:
        another = self.report.teacher is not None or self.report.boards
        if another or self.report.judged_candidate() is None:
            raise self._misplaced()

    @property
    def model(self) -> Candidate:
        """The model with its measurements there."""
        candidate = self.report.judged_candidate()
        if candidate is None:
            raise self._misplaced()
        return candidate

    def _misplaced(self) -> DataError:
        return DataError(
            f"The report of {self.label!r} is not a board's: it holds "
            f"{len(self.report.models())} models and {len(self.report.boards)} boards, not the one "
            "model that runs there. Give the report that `validate` wrote there."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All measurements, and the verdict."""

    created: str  # ISO 8601, UTC
    name: str  # of the bundle or the run
    verdict: Verdict
    contract: tuple[ContractClause, ...]
    environment: dict[str, str]
    chosen: str | None = None  # name of a candidate
    choice: str | None = None  # sentences: why that one, or why none
    reasons: tuple[str, ...] = ()  # sentences: what failed, by how much
    # The clauses of the same model on the validation series; without a chosen one they decided.
    validation: tuple[ContractClause, ...] = ()
    # Of every variant on the validation series, the nearest first; (): one was chosen.
    variants: tuple[VariantClauses, ...] = ()
    next_steps: tuple[NextStep, ...] = ()
    data: Data | None = None
    teacher: Candidate | None = None
    student: Candidate | None = None  # as trained: torch, fp32
    candidates: tuple[Candidate, ...] = ()
    speed: SpeedComparison | None = None
    references: dict[str, Estimate] | None = None  # "floor", "ceiling": saliency Pearson
    curves: Curves | None = None
    confusion: Confusion | None = None
    calibration: Calibration | None = None
    examples: tuple[Example, ...] = ()
    telemetry: Telemetry | None = None
    boards: tuple[Board, ...] = ()
    format: Literal["edgedistill.report/1"] = FORMAT

    def __post_init__(self) -> None:
        names = [candidate.name for candidate in self.candidates]
        if len(set(names)) != len(names):
            raise DataError(f"Candidates share a name: {', '.join(names)}. Name each its own way.")
        labels = [board.label for board in self.boards]
        if len(set(labels)) != len(labels):
            raise DataError(f"Boards share a label: {', '.join(labels)}. Label each its own way.")
        if self.chosen is not None and self.chosen not in names:
            raise DataError(
                f"The chosen model {self.chosen!r} is not among the candidates "
                f"({', '.join(names) or 'none'}). Report the one that was chosen."
            )
        failed = [clause.name for clause in self.contract if not clause.passed]
        if self.verdict == "kept" and failed:
            raise DataError(
                f"The verdict is 'kept', but {', '.join(failed)} failed. Take the verdict from "
                "edgedistill.evaluation.contract.verdict."
            )

    def deciding_clauses(self) -> tuple[ContractClause, ...]:
        """The clauses that decided: on validation series if no variant kept them, else on test."""
        return self.validation if self.validation and self.chosen is None else self.contract

    def undecided(self) -> tuple[ContractClause, ...]:
        """The clauses without which the verdict would be certain; more series would decide them.

        A broken contract is certain if one of its broken clauses is.
        """
        clauses = self.deciding_clauses()
        if self.verdict == "broken":
            clauses = tuple(clause for clause in clauses if not clause.passed)
            if any(clause.decided for clause in clauses):
                return ()
        return tuple(clause for clause in clauses if not clause.decided)

    def distilled(self) -> tuple[Candidate, ...]:
        """The student, if it was measured, and the candidates."""
        return self.candidates if self.student is None else (self.student, *self.candidates)

    def models(self) -> tuple[Candidate, ...]:
        """The teacher, if it was measured, and all models distilled from it."""
        return self.distilled() if self.teacher is None else (self.teacher, *self.distilled())

    def judged_candidate(self) -> Candidate | None:
        """The candidate that the verdict is about: the chosen one, or the only one."""
        if self.chosen is None:
            return self.candidates[0] if len(self.candidates) == 1 else None
        return next(model for model in self.candidates if model.name == self.chosen)
