"""`optimize --search`: tables for people, JSON for machines, and no search without a teacher."""

from __future__ import annotations

import pytest

from edgedistill.io.files import read_json


@pytest.fixture(scope="module")
def optimize(invoke, recipe, finished):
    """Return what runs `optimize` on the student of a finished run."""

    def run(*options: object):
        model = finished.folder / "model" / "student.onnx"
        return invoke("optimize", recipe, "--model", model, *options)

    return run


def test_a_search_for_machines(optimize, finished, tmp_path):
    """The whole account is on stdout, as it is in the folder."""
    out = tmp_path / "variants"

    ran = optimize("--search", "--teacher", finished.folder / "teacher", "--out", out, "--json")

    assert ran.code == 0
    assert ran.json["search"] == read_json(out / "search.json")
    assert ran.json["search"]["complete"]
    assert "search" in ran.stderr


def test_a_search_for_people(optimize, finished, tmp_path):
    """Settings of the recipe stand beside the flag; what was found is in words."""
    settings = "optimize={search: {agreement_loss: 0, saliency_loss: 0}, recover: {epochs: 1}}"

    ran = optimize(
        *("--search", "--teacher", finished.folder / "teacher", "--out", tmp_path / "variants"),
        *("--set", settings),
    )

    assert ran.code == 0
    assert "What each node gives back in float32" in ran.stdout
    assert "Front of size, latency and saliency agreement" in ran.stdout
    assert "Gemm_0" in ran.stdout
    assert "recovery" in ran.stdout
    assert "in float32 keeps the contract" in ran.stdout or "breaks the contract" in ran.stdout


def test_a_search_without_a_teacher(optimize, tmp_path):
    ran = optimize("--search", "--out", tmp_path / "variants")

    assert ran.code == 2
    assert "Name the folder that `train` wrote with --teacher" in ran.stderr
    assert not (tmp_path / "variants").exists()
