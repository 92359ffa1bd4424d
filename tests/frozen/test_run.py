"""What a small seeded run says and leaves: compress, every stage, and commands on the result."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow


def test_compress(compressed, frozen_command):
    """The report of the whole way."""
    frozen_command("compress", compressed, trained=True)


def test_compress_again(compressed, invoke, frozen_command):
    """No stage runs, and people see tables."""
    frozen_command("compress-again", invoke("compress", "tiny.yaml", "--out", "run"))


def test_folder_of_a_run(compressed, home, contents, frozen):
    """Names of its files, and what is in those that people and programs read."""
    frozen("run-folder", contents(home / "run"), trained=True)


def test_bundle(compressed, home, contents, frozen):
    """Names of its files, its manifest and its arrays."""
    frozen("bundle-contents", contents(home / "run" / "result" / "bundle.zip"), trained=True)


@pytest.mark.parametrize("stage", ["train", "distill", "export", "optimize", "bundle"])
def test_stage(staged, home, contents, frozen, frozen_command, stage):
    """What it prints and what it writes."""
    trained = stage in {"train", "distill"}
    frozen_command(f"stage-{stage}", staged[stage], trained=trained)
    frozen(f"stage-{stage}-folder", contents(home / "staged" / stage), trained=trained)


def test_experiment(experimented, home, contents, frozen, frozen_command):
    """Scores of every run, and what is in the folder."""
    frozen_command("experiment", experimented, trained=True)
    frozen("experiment-folder", contents(home / "experiment"), trained=True)
