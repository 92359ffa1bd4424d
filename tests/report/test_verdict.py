"""How certain a verdict is, on which series it was decided, and what would help."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgedistill.evaluation.contract import ContractClause
from edgedistill.evaluation.metrics import Estimate
from edgedistill.report import NextStep, VariantClauses, html, markdown, to_json, verdict

pytestmark = pytest.mark.slow

CLEAR = ContractClause("kl", "<=", 0.5, Estimate(0.1, 0.05, 0.2), True, True)
OPEN = ContractClause("agreement", ">=", 0.9, Estimate(0.92, 0.85, 0.97), True, False)
OPEN_BROKEN = ContractClause("agreement", ">=", 0.9, Estimate(0.88, 0.8, 0.93), False, False)
CLEAR_BROKEN = ContractClause("kl", "<=", 0.5, Estimate(0.9, 0.8, 1.0), False, True)
STEP = NextStep(reason="A wider student comes nearer.", settings=("student.width=32",))


@pytest.mark.parametrize(
    ("test", "validation", "is_chosen", "words"),
    [
        ((CLEAR,), (OPEN,), True, "kept"),
        ((CLEAR, OPEN), (CLEAR,), True, "kept, undecided"),
        ((CLEAR, OPEN_BROKEN), (CLEAR, OPEN), True, "broken, undecided"),
        ((CLEAR_BROKEN, OPEN_BROKEN), (CLEAR, OPEN), True, "broken"),
        ((CLEAR, OPEN), (CLEAR_BROKEN, OPEN), False, "broken"),
        ((CLEAR_BROKEN, OPEN), (CLEAR, OPEN_BROKEN), False, "broken, undecided"),
    ],
)
def test_verdict_is_undecided_if_more_series_could_turn_it(
    full_report, test, validation, is_chosen, words
):
    """What decided counts: the validation series where no variant kept the contract on them."""
    report = replace(
        full_report,
        contract=test,
        validation=validation,
        verdict=words.partition(",")[0],
        chosen=full_report.chosen if is_chosen else None,
    )

    assert verdict.verdict(report) == words
    assert bool(verdict.undecided_note(report)) == ("undecided" in words)


@pytest.fixture
def nothing_chosen(full_report):
    """No variant kept the contract on ten validation series, which is not certain."""
    return replace(
        full_report,
        contract=(CLEAR, OPEN),
        validation=(CLEAR, OPEN_BROKEN),
        verdict="broken",
        chosen=None,
        choice="No variant keeps the contract.",
        next_steps=(STEP,),
    )


def test_what_decided_comes_first_with_its_number_of_series(full_report, nothing_chosen):
    first, second = verdict.contract_sections(nothing_chosen)
    assert (first.title, first.clauses) == (
        "On 10 validation series, which decided",
        (OPEN_BROKEN, CLEAR),
    )
    assert (second.title, second.clauses) == ("On 150 test series", (CLEAR, OPEN))

    kept = replace(full_report, contract=(CLEAR,), validation=(OPEN,))
    titles = [section.title for section in verdict.contract_sections(kept)]
    assert titles == [
        "On 150 test series, which decided",
        "On 10 validation series, on which it was chosen",
    ]
    assert [section.title for section in verdict.contract_sections(full_report)] == [""]


@pytest.fixture
def several(nothing_chosen):
    """Two variants, of which TensorRT's is not judged by its latency here."""
    latency = ContractClause("latency_p95_ms", "<=", 0.2, Estimate(0.1, 0.1, 0.1), True, True)
    nearest = VariantClauses(candidate="ort-int8", clauses=(CLEAR, latency, OPEN_BROKEN))
    farther = VariantClauses(candidate="trt-fp16", clauses=(CLEAR_BROKEN, OPEN_BROKEN))
    reasons = [verdict.variant_reason("trt-fp16", c) for c in farther.clauses]
    return replace(
        nothing_chosen,
        variants=(nearest, farther),
        reasons=(*reasons, "ort-fp16 was not made: reason."),
    )


def test_table_of_variants_begins_with_what_the_nearest_breaks(several):
    rows = verdict.variant_rows(several)

    assert [row.label for row in rows] == [
        "Agreement with the teacher",
        "KL from the teacher, nats",
        "Latency p95",
    ]
    assert rows[0].cells == (OPEN_BROKEN, OPEN_BROKEN)
    assert rows[1].cells == (CLEAR, CLEAR_BROKEN)
    assert rows[2].cells[1] is None
    assert verdict.open_reasons(several) == ["ort-fp16 was not made: reason."]


@pytest.mark.parametrize("render", [html.render, markdown.render], ids=["page", "Markdown"])
def test_variants_stand_in_a_table_in_the_place_of_paragraphs(several, render):
    text = render(to_json(several))

    assert "on the validation split" not in text
    for part in (
        "ll variants on the valid" if render is markdown.render else "All 2 variants",
        "trt-fp16",
        "ort-fp16 was not made: reason.",
    ):
        assert part in text
    if render is html.render:
        assert "<details>" in text.partition('class="variants"')[0]


def test_command_can_be_copied_into_a_shell():
    step = NextStep(reason="", settings=("optimize.search={}", "optimize.recover=true"))

    assert verdict.command(step, Path("my runs/a")) == (
        "edgedistill compress 'my runs/a/recipe.yaml' --out 'my runs/a' "
        "--set 'optimize.search={}' --set optimize.recover=true"
    )


@pytest.mark.parametrize("render", [html.render, markdown.render], ids=["page", "Markdown"])
def test_page_and_markdown_have_all_of_it(nothing_chosen, render):
    text = render(to_json(nothing_chosen))

    for part in (
        "roken, undecided",
        "Undecided: Agreement with the teacher. On 10 validation series the threshold lies",
        "No variant keeps the contract.",
        "On 10 validation series, which decided",
        "On 150 test series",
        "What would help",
        "A wider student comes nearer.",
        "edgedistill compress RUN/recipe.yaml --out RUN --set student.width=32",
    ):
        assert part in text
