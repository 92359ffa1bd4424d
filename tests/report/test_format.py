"""Numbers and outcomes have one format everywhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgedistill.cli import output
from edgedistill.evaluation.contract import ContractClause
from edgedistill.evaluation.metrics import Estimate
from edgedistill.report import Int8Arithmetic, Metrics, boards, html, markdown, to_json
from edgedistill.report import format as fmt


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (fmt.format_size, 999, "999 B"),
        (fmt.format_size, 1_000, "1.00 kB"),
        (fmt.format_size, 3.2e9, "3.20 GB"),
        (fmt.milliseconds, 0.5, "500 µs"),
        (fmt.milliseconds, 12.34, "12.3 ms"),
        (fmt.milliseconds, 12_340, "12.3 s"),
        (fmt.percent, 1.0, "100.0 %"),
        (fmt.points, -0.00001, "0.0 pp"),
        (fmt.decimals, -0.5, "−0.500"),
        (fmt.format_count, 2_100_000, "2,100,000"),
    ],
)
def test_numbers_have_units(write, value, text):
    """Three digits, a unit, a true minus sign."""
    assert write(value) == text


def test_interval_keeps_units_that_differ():
    """A shared unit is written once, two units are both written."""
    assert fmt.interval(Estimate(1, 900, 1200), fmt.format_size) == "900 B to 1.20 kB"
    assert fmt.interval(Estimate(1, 100, 200), fmt.format_size) == "100 to 200 B"


@pytest.mark.parametrize(
    ("passed", "decided", "text"),
    [
        (True, True, "kept"),
        (False, True, "broken"),
        (True, False, "kept, undecided"),
        (False, False, "broken, undecided"),
    ],
)
def test_outcome_within_the_interval_is_undecided(passed, decided, text):
    """A threshold inside the interval is no decision."""
    clause = ContractClause("agreement", ">=", 0.9, Estimate(0.9, 0.8, 1.0), passed, decided)

    assert fmt.outcome(clause) == text


def test_unknown_clause_is_titled_by_its_key():
    """A clause without a title of its own."""
    clause = ContractClause("energy_mj", "<=", 2.0, Estimate(1.5, 1.0, 1.8), True, True)

    assert fmt.clause_label(clause) == "Energy mj"
    assert fmt.threshold(clause) == "≤ 2.000"


def test_headline_has_gains_and_agreement(full_report):
    """Contract kept: gains in size, and in speed within one runtime; torch is named beside it."""
    assert fmt.headline(full_report) == (
        "int8 is 560× smaller and 4.00× faster than the teacher, both in ONNX Runtime (34.5× "
        "faster than the teacher in torch). It names the teacher's class for 90.0 % of 150 test "
        "series."
    )


@pytest.mark.parametrize(
    ("changes", "gain"),
    [
        (
            {"teacher_ms": Estimate(0.019, 0.01, 0.02)},
            "2.00× slower than the teacher, both in ONNX",
        ),
        ({"native_ms": None}, "4.00× faster than the teacher, both in ONNX Runtime. It"),
        (
            {"teacher_ms": None, "native_runtime": "sklearn", "reason": "It is no torch module."},
            "34.5× faster than the teacher in scikit-learn, which has no export to ONNX Runtime.",
        ),
    ],
    ids=["slower", "an ONNX teacher", "no export"],
)
def test_headline_names_the_runtimes_of_a_speed(full_report, changes, gain):
    text = fmt.headline(replace(full_report, speed=replace(full_report.speed, **changes)))

    assert f" and {gain}" in text


@pytest.mark.parametrize("speed", [None, "fp16"])
def test_headline_has_no_speed_of_another_run_or_model(full_report, speed):
    """Latencies that were measured apart, or in other runtimes, make no ratio."""
    other = None if speed is None else replace(full_report.speed, model=speed)

    text = fmt.headline(replace(full_report, speed=other))

    assert text.startswith("int8 is 560× smaller than the teacher. It names")


def test_times_of_a_speed_are_noted(full_report):
    """With both runtimes of the teacher, or why there is one."""
    speed = full_report.speed
    alone = replace(speed, teacher_ms=None, reason="rocket is no torch module.")

    assert fmt.speed_note(speed) == (
        "Speed: one series a call on one thread, in alternation: in ONNX Runtime int8 38.0 µs, "
        "the teacher 152 µs; in torch the teacher 1.31 ms."
    )
    assert fmt.speed_note(alone) == (
        "Speed: one series a call on one thread, in alternation: in ONNX Runtime int8 38.0 µs; "
        "in torch the teacher 1.31 ms. Not exported: rocket is no torch module."
    )


def test_emulated_models_are_listed(full_report):
    """A model for TensorRT without latency was emulated; on a board it has one."""
    model = full_report.candidates[0]
    emulated = replace(model, name="trt-fp16", runtime="tensorrt", latency_ms=None)
    on_a_board = replace(emulated, latency_ms=model.latency_ms)

    assert fmt.emulation((model, on_a_board)) == ""
    assert fmt.emulation((model, emulated)) == (
        "Emulated on a CPU: trt-fp16. Their answers carry the device's rounding; their latency is "
        "for the board to measure."
    )


def test_headline_without_a_teacher(full_report):
    """Agreement alone, or that the contract holds."""
    alone = replace(full_report, teacher=None, data=None, speed=None)
    bare = replace(alone.judged_candidate(), metrics=Metrics())

    assert fmt.headline(alone) == "int8 names the teacher's class for 90.0 % of the series."
    assert fmt.headline(replace(alone, candidates=(bare,))) == "int8 keeps the contract."
    assert fmt.headline(replace(alone, chosen=None)) == "Every clause of the contract holds."


def test_headline_of_a_broken_contract(board_report):
    """The number of broken clauses of one model, or that no variant keeps it."""
    other = replace(board_report.candidates[0], name="fp16")

    several = replace(board_report, candidates=(*board_report.candidates, other))

    assert fmt.headline(board_report) == "int8 breaks 1 of the contract's 2 clauses."
    assert fmt.headline(several) == "No variant keeps the contract."


def test_sums_of_int8_are_named(full_report):
    """Quality and speed apart; models of one kind together."""
    exact = Int8Arithmetic(measured="exact", timed="exact", instructions="AVX-512 VNNI")
    fast = Int8Arithmetic(measured="exact", timed="saturating", instructions="AVX2 without VNNI")
    untimed = replace(fast, timed=None)
    model = full_report.candidates[0]
    models = [
        replace(model, name=name, int8=int8)
        for name, int8 in (("a", fast), ("b", exact), ("c", fast), ("d", None), ("e", untimed))
    ]

    assert fmt.int8_notes(tuple(models)) == [
        "INT8 (a, c): quality with exact sums of 8-bit products; speed on AVX2 without VNNI, with "
        "sums that saturate in 16 bits.",
        "INT8 (b): quality with exact sums of 8-bit products; speed on AVX-512 VNNI, with exact "
        "sums.",
        "INT8 (e): quality with exact sums of 8-bit products; not timed.",
    ]


def test_every_format_has_the_notes(full_report, capsys):
    """Of speed and of INT8's sums, on the terminal, in Markdown and on the page; JSON has facts."""
    int8 = Int8Arithmetic(measured="exact", timed="saturating", instructions="AVX2 without VNNI")
    report = replace(
        full_report, candidates=tuple(replace(m, int8=int8) for m in full_report.candidates)
    )
    notes = fmt.notes(report)
    values = to_json(report)

    output.print_report(report)

    printed = " ".join(capsys.readouterr().out.split())
    assert len(notes) == 2
    assert all(note in printed for note in notes)
    assert all(note in markdown.render(values) for note in notes)
    assert all(note in html.render(values) for note in notes)
    assert values["candidates"][0]["int8"]["instructions"] == "AVX2 without VNNI"


def test_a_board_names_the_sums_of_int8(board_report):
    int8 = Int8Arithmetic(measured="exact", timed="exact", instructions="Arm dot product")
    (model,) = board_report.candidates

    facts = dict(boards.identity(replace(board_report, candidates=(replace(model, int8=int8),))))

    assert facts["INT8"] == fmt.int8_note(int8)
    assert "INT8" not in dict(boards.identity(board_report))
