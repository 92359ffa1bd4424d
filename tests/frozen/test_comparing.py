"""The comparison finds what changed, and passes over what may."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

KEPT = json.loads((Path(__file__).parent / "golden" / "report.json").read_text("utf-8"))


def _gone(value):
    del value["stdout"]["contract"][1]["decided"]


def _new(value):
    value["stdout"]["extra"] = 1


def _number(value):
    value["stdout"]["student"]["metrics"]["kl"]["value"] += 0.005


def _count(value):
    value["stdout"]["student"]["parameters"] += 1


def _type(value):
    value["stdout"]["student"]["parameters"] = float(value["stdout"]["student"]["parameters"])


def _word(value):
    value["stdout"]["verdict"] = "broken"


def _boolean(value):
    value["stdout"]["contract"][0]["pass"] = False


def _order(value):
    value["stdout"] = dict(reversed(value["stdout"].items()))


def _length(value):
    value["stdout"]["candidates"].pop()


def _code(value):
    value["code"] = 4


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (_gone, "/stdout/contract/1/decided: is gone"),
        (_new, "/stdout/extra: is new"),
        (_number, "/stdout/student/metrics/kl/value: is"),
        (_count, "/stdout/student/parameters: is"),
        (_type, "/stdout/student/parameters: is"),
        (_word, "/stdout/verdict: is 'broken', not 'kept'"),
        (_boolean, "/stdout/contract/0/pass: is False, not True"),
        (_order, "/stdout: keys are in another order"),
        (_length, "/stdout/candidates: has 2 items, not 3"),
        (_code, "/code: is 4, not 0"),
    ],
)
def test_a_change_is_found(comparing, change, where):
    """And only that one is named."""
    now = json.loads(json.dumps(KEPT))
    change(now)

    (found,) = comparing.differences(KEPT, now)

    assert found.startswith(where)


def test_rounding_is_no_change(comparing):
    """The last bits are the machine's."""
    now = json.loads(json.dumps(KEPT))
    now["stdout"]["student"]["metrics"]["accuracy"]["value"] *= 1 + 1e-6

    assert not list(comparing.differences(KEPT, now))


def test_what_was_trained_elsewhere_is_compared_coarsely(comparing):
    """Its curves not at all, its words as ever."""
    now = json.loads(json.dumps(KEPT))
    now["stdout"]["curves"]["student"][0]["validation_loss"] += 1

    assert list(comparing.differences(KEPT, now))
    assert not list(comparing.differences(KEPT, now, elsewhere=True))
    _word(now)
    assert list(comparing.differences(KEPT, now, elsewhere=True))


def test_what_is_of_the_machine_keeps_its_key(comparing):
    """Times, dates, hashes, versions and paths become placeholders."""
    value = {
        "created": "2026-01-01T00:00:00Z",
        "latency_ms": {"p50": 0.1},
        "sha256": "0123456789abcdef",
        "runtime": "onnxruntime 1.20.1",
        "kernel": "Linux 6.1.44-cloud-v8",
        "environment": {"cpu": "fast", "python": "3.10.1"},
        "page": "/somewhere/report.html",
        "accuracy": 0.5,
    }

    assert comparing.normalize(value, {"/somewhere": "<home>"}) == {
        "created": "<created>",
        "latency_ms": {"p50": "<number>"},
        "sha256": "<hash>",
        "runtime": "onnxruntime <version>",
        "kernel": "Linux <version>",
        "environment": {"python": "<environment>"},
        "page": "<home>/report.html",
        "accuracy": 0.5,
    }
