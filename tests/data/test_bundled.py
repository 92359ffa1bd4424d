"""Bundled sets are found by name, without a download."""

from __future__ import annotations

import sys

import pytest

from edgedistill.data.bundled import bundled_file
from edgedistill.data.ts_files import read_ts
from edgedistill.errors import DataError, MachineError


def test_a_bundled_set_lies_in_the_installed_package():
    """Its test file lies beside it."""
    path = bundled_file("GunPoint")

    assert path.name == "GunPoint_TRAIN.ts"
    assert path.with_name("GunPoint_TEST.ts").exists()


@pytest.mark.parametrize("name", ["gunpoint", "GunPiont", "Gun_Point"])
def test_a_near_miss_is_told_the_name(name):
    """And what else there is, classification sets alone."""
    with pytest.raises(DataError, match=r"Did you mean 'GunPoint'.*BasicMotions") as caught:
        bundled_file(name)

    assert "Covid3Month," not in str(caught.value), "a regression set"


def test_an_unknown_name_lists_what_there_is():
    """Nothing near: no guess, but the list."""
    with pytest.raises(DataError, match=r"nor a bundled data set\. Bundled are ACSF1"):
        bundled_file("*")


def test_a_regression_set_is_refused():
    """It is bundled too, but has no classes."""
    with pytest.raises(DataError, match="no '@classLabel true' line"):
        read_ts(bundled_file("Covid3Month"))


def test_without_aeon_the_message_says_what_to_install(monkeypatch):
    """The one error here that is the machine's."""
    monkeypatch.setitem(sys.modules, "aeon", None)  # how Python marks what cannot be imported

    with pytest.raises(MachineError, match="pip install aeon"):
        bundled_file("GunPoint")
