"""What the README and the pages of docs/ tell a reader to do works as it stands there.

Every ```bash block is run, those of a page in their order and in one fresh folder. A
```sh block names make targets. What needs a network or another machine is ```text.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_COMPRESS = re.compile(r"^edgedistill compress (?:.*\\\n)*.*--out (\S+)(?:.*\\\n)*.*$", re.M)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def _blocks(page: Path, language: str) -> list[str]:
    return [text for name, text in _FENCE.findall(page.read_text("utf-8")) if name == language]


def _run(block: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a block as a reader would: with the commands of this environment, stopping on errors."""
    here = Path(sys.executable).parent
    path = f"{here}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=folder,
        # Small networks gain nothing from threads, and lose much where other tests run beside.
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


def _make_targets(makefile: str) -> set[str]:
    return set(re.findall(r"^([a-z][\w-]*):", makefile, re.M))


def _missing_targets(block: str, makefile: str) -> list[str]:
    """Return the commands of a block that no target of the Makefile answers."""
    lines = [line.partition("#")[0].split() for line in block.splitlines()]
    known = _make_targets(makefile)
    return [" ".join(words) for words in lines if words and not _is_known(words, known)]


def _is_known(words: list[str], targets: set[str]) -> bool:
    return words[0] == "make" and set(words[1:]) <= targets


def _dead_links(page: Path, text: str) -> list[str]:
    """Return the relative links of a page that lead to nothing."""
    links = [link.partition("#")[0] for link in _LINK.findall(text)]
    local = [link for link in links if link and "://" not in link]
    return [link for link in local if not (page.parent / link).exists()]


with_bash = [page for page in PAGES if _blocks(page, "bash")]


@pytest.fixture(scope="module")
def finished() -> dict[str, Path]:
    """Run folders by the `compress` that wrote them; repeated on another page, it ends at once."""
    return {}


@pytest.mark.parametrize("page", with_bash, ids=lambda page: page.name)
def test_bash_blocks_run(page, tmp_path, finished):
    """Each ends with exit code 0; later blocks of a page may use what earlier ones wrote."""
    for block in _blocks(page, "bash"):
        runs = {command[0]: tmp_path / command[1] for command in _COMPRESS.finditer(block)}
        for command, folder in runs.items():
            if command in finished:
                shutil.copytree(finished[command], folder)

        ran = _run(block, tmp_path)

        assert ran.returncode == 0, f"{block}\n{ran.stdout}\n{ran.stderr}"
        finished |= runs


def test_python_page_runs(tmp_path):
    """Its blocks are one program."""
    blocks = _blocks(ROOT / "docs" / "python.md", "python")
    program = tmp_path / "page.py"
    program.write_text("\n".join(blocks), "utf-8")

    ran = _run(f"{sys.executable} page.py", tmp_path)

    assert ran.returncode == 0, ran.stderr
    assert "verdict: kept" in ran.stdout


def test_example_ends_in_a_validated_bundle(tmp_path):
    """The script of a notebook, with arrays, a teacher and a student of one's own."""
    shutil.copytree(ROOT / "examples", tmp_path, dirs_exist_ok=True)

    ran = _run(f"{sys.executable} compress_in_memory.py", tmp_path)

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "kept"
    assert (tmp_path / "runs" / "power" / "explanation.png").is_file()


def test_there_are_blocks_to_run():
    """The README is among the pages, so the test above is not empty."""
    assert ROOT / "README.md" in with_bash


@pytest.mark.parametrize(
    "block",
    ["edgedistill inspect no.onnx", "edgedistill init a.yaml --date x\ntrue", "false | cat"],
)
def test_a_broken_block_would_be_found(block, tmp_path):
    """A wrong file, a wrong option before a right line, a failure inside a pipe."""
    assert _run(block, tmp_path).returncode != 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_sh_blocks_name_make_targets(page):
    """What is not run here exists at least."""
    makefile = (ROOT / "Makefile").read_text("utf-8")

    for block in _blocks(page, "sh"):
        assert _missing_targets(block, makefile) == []


def test_a_target_that_is_not_there_would_be_found():
    """Comments are no targets, variables neither."""
    makefile = "VENV ?= .venv\nBIN := x\ntest: lint\n\trun\n"

    assert _missing_targets("make test # tests\nmake tset\nrm x\n", makefile) == [
        "make tset",
        "rm x",
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """Every relative link names a file."""
    assert _dead_links(page, page.read_text("utf-8")) == []


def test_a_dead_link_would_be_found():
    """Links with a fragment count, those into the web do not."""
    text = "[a](no.md) [b](https://example.org/x) [c](architecture.md#floors) [d](no.md#x) [e](#y)"

    assert _dead_links(ROOT / "docs" / "page.md", text) == ["no.md", "no.md"]
