"""What CI runs is what the Makefile and pyproject.toml have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tomli
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
CHECK = ROOT / ".github" / "workflows" / "check.yml"


def _commands(workflow: Path) -> list[str]:
    jobs = yaml.safe_load(workflow.read_text("utf-8"))["jobs"].values()
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


def test_every_python_of_the_package_is_checked():
    """The matrix and the classifiers name the same versions."""
    project = tomli.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))

    matrix = yaml.safe_load(CHECK.read_text("utf-8"))["jobs"]["check"]["strategy"]["matrix"]

    assert matrix["python"] == named


@pytest.mark.parametrize("source", [*WORKFLOWS, ROOT / ".ci" / "run"], ids=lambda path: path.name)
def test_make_has_what_is_run(source):
    """Every target that a workflow or `.ci/run` makes."""
    known = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    lines = _commands(source) if source.suffix else source.read_text("utf-8").splitlines()
    made = (re.match(r"make((?: [a-z][\w-]*)+)", line) for line in lines)
    asked = {word for match in made if match for word in match[1].split()}

    assert asked <= known


def test_the_complete_job_runs_all_of_ci():
    """As root, because the emulated board needs it."""
    assert any(re.fullmatch(r"sudo env .* \.ci/run", command) for command in _commands(CHECK))


def test_lowest_versions_are_checked_on_the_lowest_python():
    """The job runs the target, which takes the oldest Python of the package; no CUDA is fetched."""
    project = tomli.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    oldest = re.match(r">=(3\.\d+)", project["requires-python"])[1]
    makefile = (ROOT / "Makefile").read_text("utf-8")
    target = re.search(r"^lowest:.*\n((?:\t.*\n)+)", makefile, re.M)[1]

    *_, step = yaml.safe_load(CHECK.read_text("utf-8"))["jobs"]["lowest"]["steps"]

    assert (step["run"], step["env"]["UV_TORCH_BACKEND"]) == ("make lowest", "cpu")
    assert f"--python {oldest} " in target
    assert "--resolution lowest-direct" in target
    assert all(">=" in requirement for requirement in project["dependencies"])
