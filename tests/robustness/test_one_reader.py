"""A file means the same series in training, as a test file, and to `predict`, or it is refused."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fuzzing import table_campaign
from fuzzing.kept_tables import KEPT, KEPT_WITH_PARQUET
from fuzzing.table_campaign import Outcome, run_seed, run_tables, usable_formats
from fuzzing.table_cases import FORMATS, PARQUET, Case, write_case
from fuzzing.table_check import Finding, check

from edgedistill.formats import times
from edgedistill.formats.schema import InputSchema
from edgedistill.io.files import read_json

pytestmark = pytest.mark.slow

SHORT = 300  # tables
FIRST = 1_000_000  # seeds that a campaign does not reach


def _findings(outcomes: list[Outcome]) -> list[str]:
    return [one.finding for one in outcomes if one.finding is not None]


def test_generated_tables_are_read_as_written_or_refused():
    """Of all formats, in training and by `predict`, on workstation and board."""
    outcomes = [run_seed(FIRST + at, formats=usable_formats()) for at in range(SHORT)]

    assert _findings(outcomes) == []
    kinds = Counter(one.kind for one in outcomes if one.was_read)
    assert set(kinds) == set(usable_formats())
    assert SHORT * 0.6 < sum(kinds.values()) < SHORT * 0.98  # or nothing is read, or refused


@pytest.mark.parametrize(("reason", "seeds"), KEPT.items(), ids=KEPT)
def test_tables_that_were_once_misread(reason, seeds):
    """Or were refused without a reason."""
    assert _findings([run_seed(seed, formats=FORMATS) for seed in seeds]) == []


@pytest.mark.parametrize(("reason", "seeds"), KEPT_WITH_PARQUET.items(), ids=KEPT_WITH_PARQUET)
def test_tables_with_parquet_that_were_once_misread(reason, seeds):
    """Seeds mean other tables where Parquet can be written."""
    pytest.importorskip("pyarrow")

    assert _findings([run_seed(s, formats=(*FORMATS, *PARQUET)) for s in seeds]) == []


def test_predict_gives_the_logits_of_the_series_written():
    """Through a bundle and the real command."""
    tally = run_tables(10, models=10, jobs=1)

    assert tally.findings == []
    assert tally.by_model >= 5


def test_the_script_counts_tables(tmp_path):
    """As a person starts it."""
    script = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"
    out = tmp_path / "tables.json"

    done = subprocess.run(
        [sys.executable, str(script), "--tables", "60", "--models", "2", "--out", str(out)],
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    found = read_json(out)
    assert found["tables"] == 60 == sum(found["read"].values()) + sum(found["refused"].values())
    assert "60 tables, 2 also through a model" in done.stdout


def _shifted(schema: InputSchema, one: np.ndarray) -> np.ndarray:
    return one[:, 1:]


def _raise(case: Case) -> str:
    raise KeyError(case.kind)


@pytest.mark.parametrize(
    ("target", "name", "fault"),
    [
        (InputSchema, "without_padding", _shifted),  # cuts a value off
        (times, "_number", lambda text: -times._duration(text + "s")),  # turns time around
        (table_campaign, "check", _raise),  # a traceback
    ],
    ids=["a value less", "time turned around", "a traceback"],
)
def test_faults_are_found(target, name, fault, monkeypatch):
    """Or a campaign would find nothing because it cannot."""
    monkeypatch.setattr(target, name, fault)

    outcomes = [run_seed(FIRST + at, formats=FORMATS) for at in range(60)]

    assert _findings(outcomes)


def test_a_table_that_must_be_refused_is_a_finding_when_it_is_read(tmp_path):
    """The other side of the rule."""
    seed = next(s for s in range(FIRST, FIRST + 100) if run_seed(s, formats=FORMATS).was_read)
    read = write_case(seed, tmp_path, FORMATS)

    with pytest.raises(Finding, match="though it cannot be told"):
        check(replace(read, expected="refused"))
