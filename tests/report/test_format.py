"""Numbers and outcomes have one format everywhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgedistill.cli import output
from edgedistill.evaluation.contract import ContractClause
from edgedistill.evaluation.metrics import Estimate
from edgedistill.report import Int8Arithmetic, Latency, Metrics, boards, html, markdown, to_json
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
    """Contract kept: gains in size and latency, and agreement."""
    assert fmt.headline(full_report) == (
        "int8 is 560× smaller and 34.5× faster than the teacher. "
        "It names the teacher's class for 90.0 % of 150 test series."
    )


def test_headline_has_losses_too(full_report):
    """A slower variant is called slower."""
    model = full_report.judged_candidate()
    slow = replace(model, latency_ms=Latency(p50=2.62, p95=3, p99=4))

    text = fmt.headline(replace(full_report, candidates=(slow,)))

    assert "2.00× slower than the teacher" in text


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
    alone = replace(full_report, teacher=None, data=None)
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


def test_every_format_names_the_sums_of_int8(full_report, capsys):
    """Terminal, Markdown and page; JSON has the facts."""
    int8 = Int8Arithmetic(measured="exact", timed="saturating", instructions="AVX2 without VNNI")
    report = replace(
        full_report, candidates=tuple(replace(m, int8=int8) for m in full_report.candidates)
    )
    (note,) = fmt.int8_notes(report.models())
    values = to_json(report)

    output.print_report(report)

    assert note in capsys.readouterr().out.replace("\n", " ")
    assert note in markdown.render(values)
    assert note in html.render(values)
    assert values["candidates"][0]["int8"]["instructions"] == "AVX2 without VNNI"


def test_a_board_names_the_sums_of_int8(board_report):
    int8 = Int8Arithmetic(measured="exact", timed="exact", instructions="Arm dot product")
    (model,) = board_report.candidates

    facts = dict(boards.identity(replace(board_report, candidates=(replace(model, int8=int8),))))

    assert facts["INT8"] == fmt.int8_note(int8)
    assert "INT8" not in dict(boards.identity(board_report))
