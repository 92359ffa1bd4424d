"""JSON round trips hold every fact, and anything else is refused."""

from __future__ import annotations

import copy
import json
from dataclasses import fields, is_dataclass, replace
from typing import get_args, get_type_hints

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from edgedistill.errors import DataError, EdgeDistillError, IntegrityError
from edgedistill.report import Report, from_json, schema, to_json

pytestmark = pytest.mark.slow

# Each: where, the planted value, what our own reader says.
MISSING = "taken away"
PLANTED = [
    (("verdict",), MISSING, "report lacks verdict"),
    (("contract",), MISSING, "report lacks contract"),
    (("environment",), MISSING, "report lacks environment"),
    (("verdict",), "maybe", "report.verdict: expected 'kept' or 'broken', got \"maybe\""),
    (("contract", 0, "pass"), "yes", r"contract\[0\].pass: expected true or false, got \"yes\""),
    (("contract", 0, "pass"), 1, r"contract\[0\].pass: expected true or false, got 1"),
    (("contract", 0, "comparison"), "<", "comparison: expected '>=' or '<='"),
    (("contract", 0, "measured", "low"), MISSING, r"contract\[0\].measured lacks low"),
    (("candidates", 1, "size_bytes"), 9.5, r"candidates\[1\].size_bytes: expected an integer"),
    (("candidates", 1, "surprise"), 1, r"candidates\[1\] has a key 'surprise'"),
    (("candidates", 0, "metrics", "kl", "value"), "small", "kl.value: expected a number"),
    (("candidates", 0, "latency_ms", "p50"), True, "p50: expected a number, got true"),
    (("candidates",), {"fp32": 1}, "report.candidates: expected a list"),
    (("data",), [], "report.data: expected an object"),
    (("environment", "python"), 3.11, "environment.python: expected text, got 3.11"),
    (("references", "floor"), None, "references.floor: expected an object, got null"),
    (("examples", 0, "series"), [["x" * 99]], r"expected a number, got \"x+\.\.\."),
]


@pytest.fixture(scope="session")
def validator() -> Draft202012Validator:
    Draft202012Validator.check_schema(schema())
    return Draft202012Validator(schema())


@pytest.mark.parametrize(
    "name", ["full_report", "board_report", "orin_report", "hot_report", "joined_report"]
)
def test_report_survives_the_round_trip(name, request, validator):
    """The text is valid by the schema, and the decoded report is equal."""
    report = request.getfixturevalue(name)

    values = json.loads(json.dumps(to_json(report), allow_nan=False))

    validator.validate(values)
    assert from_json(values) == report


def test_absent_parts_are_left_out(board_report):
    """A board writes its measurements alone; `chosen` is written even if it is None."""
    values = to_json(board_report)

    assert not {"teacher", "student", "data", "curves", "examples"} & set(values)
    assert values["chosen"] is None
    assert values["candidates"][0]["metrics"]["accuracy"] is None


def test_report_of_an_earlier_version_is_read(full_report):
    """Without costs, telemetry and boards."""
    values = to_json(full_report)
    for model in (values["teacher"], values["student"], *values["candidates"]):
        del model["costs"]

    assert not {"telemetry", "boards"} & set(values)
    assert from_json(values) == full_report


def test_smallest_report_is_valid(validator):
    """Verdict, contract and environment are enough."""
    least = Report(
        created="2026-01-01T00:00Z", name="x", verdict="kept", contract=(), environment={}
    )

    validator.validate(to_json(least))

    assert from_json(to_json(least)) == least


PLANTED_THERE = [
    (("telemetry", "at_s"), MISSING, "telemetry lacks at_s"),
    (("telemetry", "clock_mhz", "cpu", 0), "fast", r"clock_mhz.cpu\[0\]: expected a number"),
    (("telemetry", "throttling"), "no", "telemetry.throttling: expected a list"),
    (("candidates", 0, "costs", "best_batch"), 1.5, "costs.best_batch: expected an integer"),
]


@pytest.mark.parametrize(("path", "value", "message"), PLANTED_THERE, ids=lambda v: str(v)[:40])
def test_error_in_a_board_is_found(path, value, message, joined_report, validator):
    """In a board's report inside the workstation's as in its own."""
    values = _planted(to_json(joined_report), ("boards", 0, "report", *path), value)

    assert not validator.is_valid(values)
    with pytest.raises(DataError, match=message):
        from_json(values)


@pytest.mark.parametrize(("path", "value", "message"), PLANTED, ids=lambda v: str(v)[:40])
def test_error_is_found(path, value, message, full_report, validator):
    """Schema and decoder both refuse it, and the message has its place."""
    values = _planted(to_json(full_report), path, value)

    assert not validator.is_valid(values)
    with pytest.raises(DataError, match=message):
        from_json(values)


def test_other_version_is_refused(full_report, validator):
    """Only the current format is decoded."""
    values = {**to_json(full_report), "format": "edgedistill.report/2"}

    assert not validator.is_valid(values)
    with pytest.raises(IntegrityError, match=r"format is 'edgedistill\.report/2'; this version"):
        from_json(values)


def test_list_is_refused():
    """Any JSON may come in; only an object is a report."""
    with pytest.raises(DataError, match="report: expected an object, got "):
        from_json([])


def test_nan_is_refused_both_ways(full_report):
    """JSON has no NaN, though Python's reader lets it in."""
    bad = replace(full_report, references={"floor": replace(full_report.references["floor"])})
    object.__setattr__(bad.references["floor"], "low", float("nan"))
    values = _planted(to_json(full_report), ("contract", 0, "threshold"), float("nan"))

    with pytest.raises(DataError, match=r"report.references.floor.low is nan"):
        to_json(bad)
    with pytest.raises(DataError, match=r"contract\[0\].threshold: expected a finite number"):
        from_json(values)


def test_numpy_values_become_numbers(full_report):
    """Facts may hold NumPy scalars and arrays; JSON gets numbers."""
    example = full_report.examples[0]
    maps = replace(
        example,
        pearson=np.float32(0.5),
        teacher_map=np.asarray(example.teacher_map),
        index=np.int64(3),
    )

    values = to_json(replace(full_report, examples=(maps,)))["examples"][0]

    json.dumps(values)
    assert (values["pearson"], values["index"]) == (0.5, 3)
    assert values["teacher_map"] == example.teacher_map


def test_value_without_json_form_is_refused(full_report):
    """The error has its type; it is not written as text."""
    with pytest.raises(DataError, match=r"report.environment.when is a complex"):
        to_json(replace(full_report, environment={"when": 1j}))


def test_contradictory_report_is_refused(full_report):
    """Facts are checked when a report is decoded, too."""
    with pytest.raises(EdgeDistillError, match="'int4' is not among"):
        from_json({**to_json(full_report), "chosen": "int4"})


def test_schema_has_every_field():
    """Schema and facts have the same fields."""
    found = {}
    _collect(Report, found)
    described = {frozenset(part["properties"]) for part in _objects(schema())}

    assert {frozenset(names) for names in found.values()} == described


def _collect(kind, found):
    """Gather the JSON keys of a record and of every record in it."""
    if is_dataclass(kind) and kind.__name__ not in found:
        found[kind.__name__] = ["pass" if f.name == "passed" else f.name for f in fields(kind)]
        for hint in get_type_hints(kind).values():
            _collect(hint, found)
    for inner in get_args(kind):
        _collect(inner, found)


def _objects(root):
    parts = [root, *root["$defs"].values()]
    return [part for part in parts if "properties" in part]


def _planted(values, path, value):
    values = copy.deepcopy(values)
    place = values
    for key in path[:-1]:
        place = place[key]
    if value is MISSING:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return values


@pytest.mark.parametrize("levels", [50, 400, 900, 960, 980, 990])
def test_values_nested_deep_are_refused(full_report, levels):
    """However much of the stack their message would take."""
    deep: list[object] = []
    for _ in range(levels):
        deep = [deep]

    with pytest.raises(DataError, match="Make the report anew"):
        from_json({**to_json(full_report), "name": deep})
