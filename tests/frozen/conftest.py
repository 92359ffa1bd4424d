"""One tiny seeded run of every kind, made once, and what it is compared with.

`python -m pytest tests/frozen --update-frozen` freezes what commands say now; look at the
difference of `golden/` before you keep it.
"""

from __future__ import annotations

import getpass
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgedistill
from edgedistill.cli import main

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"
# Many small steps: Adam makes steps of a convolution's bias, whose gradient is only rounding
# before batch normalization, and normalization must have followed them in the end.
TINY = """\
data:
  train: ItalyPowerDemand
  limit_per_class: 20
teacher:
  width: 4
  training: {epochs: 100, learning_rate: 0.002, accelerator: cpu}
student:
  width: 4
  objectives:
    - {name: kd}
    - {name: tsd_maps, start: 0.3}
  training: {epochs: 60, learning_rate: 0.003, accelerator: cpu}
optimize:
  runs: 10
  prefer: size # the clock decides nothing
contract: # kept, so that there is a bundle
  max_accuracy_drop: 1.0
  min_agreement: 0.0
  max_kl: 100.0
  min_saliency_pearson: -1.0
  min_saliency_spearman: -1.0
golden: 8
"""
PLAN = """\
recipe:
  data: {limit_per_class: 12}
  teacher: {width: 4, training: {epochs: 100, learning_rate: 0.002, accelerator: cpu}}
  student: {width: 4, training: {epochs: 60, learning_rate: 0.003, accelerator: cpu}}
data: [ItalyPowerDemand]
methods:
  kd: {student: {objectives: [{name: kd}]}}
  kd and maps: {student: {objectives: [{name: kd}, {name: tsd_maps}]}}
seeds: [1, 2]
"""


@pytest.fixture(scope="session")
def schema_of_recipe() -> dict[str, Any]:
    """The recipe's JSON schema: the one thing that neither a command nor a file gives."""
    from edgedistill.recipe.recipe import Recipe

    return Recipe.model_json_schema()


def _module(name: str) -> Any:
    """Import a file beside this one; folders of tests are no packages."""
    spec = importlib.util.spec_from_file_location(f"frozen_{name}", HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that freezes anew."""
    parser.addoption("--update-frozen", action="store_true", help="freeze what commands say now")


@dataclass(frozen=True)
class Ran:
    """What a command left."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """Return stdout, which is one JSON document."""
        return json.loads(self.stdout)


@pytest.fixture(scope="session")
def package() -> Path:
    """The folder of the package."""
    return Path(edgedistill.__file__).parent


@pytest.fixture(scope="session")
def comparing() -> Any:
    """The module that compares."""
    return _module("comparing")


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which every command runs, so that paths in outputs are relative."""
    folder = tmp_path_factory.mktemp("home")
    for archive in (HERE / "old").glob("*.zip"):
        with zipfile.ZipFile(archive) as file:
            file.extractall(folder / "old")
    shutil.copy(HERE / "old" / "profile.npz", folder / "old")
    shutil.copytree(folder / "old" / "run", folder / "resumed")
    shutil.copytree(folder / "old" / "experiment", folder / "experiment-resumed")
    (folder / "old" / "releases" / "current").symlink_to("releases/first")
    (folder / "tiny.yaml").write_text(TINY)
    (folder / "plan.yaml").write_text(PLAN)
    return folder


@pytest.fixture(scope="session")
def replaced(home: Path) -> dict[str, str]:
    """Strings of this machine, each with what stands for it."""
    return {
        os.path.realpath(home): "<home>",
        sys.executable: "<python>",
        f"{getpass.getuser()}@127.0.0.1": "<board>",
    }


@pytest.fixture(scope="session")
def invoke(home: Path) -> Callable[..., Ran]:
    """Run `edgedistill` in this process, in `home`, 80 columns wide."""

    def call(*arguments: object) -> Ran:
        stdout, stderr = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(home)
            patch.setenv("COLUMNS", "80")
            with redirect_stdout(stdout), redirect_stderr(stderr), pytest.raises(SystemExit) as end:
                main([str(argument) for argument in arguments])
        return Ran(end.value.code or 0, stdout.getvalue(), stderr.getvalue())

    return call


@pytest.fixture(scope="session")
def device(home: Path) -> Callable[..., Ran]:
    """Run `python -m edgedistill.device` in `home`, 80 columns wide."""

    def call(*arguments: object, stdin: str = "") -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "edgedistill.device", *(str(each) for each in arguments)],
            cwd=home,
            env={**os.environ, "COLUMNS": "80", "OMP_NUM_THREADS": "1"},
            input=stdin,
            capture_output=True,
            text=True,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture(scope="session")
def updating(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are written."""
    return bool(request.config.getoption("--update-frozen", default=False))


@pytest.fixture(scope="session")
def elsewhere(updating: bool, device: Callable[..., Ran]) -> bool:
    """Whether this machine rounds otherwise than the one on which golden files were written."""
    import torch

    facts = json.loads(device("environment", "--json").stdout)
    here = {name: facts[name] for name in ("machine", "cpu", "numpy", "onnxruntime")}
    here |= {"torch": torch.__version__, "vectors": torch.backends.cpu.get_cpu_capability()}
    path = GOLDEN / "machine.json"
    if updating:
        path.write_text(json.dumps(here, indent=1) + "\n", "utf-8")
    return bool(json.loads(path.read_text("utf-8")) != here)


@pytest.fixture
def frozen(updating: bool, elsewhere: bool, comparing: Any) -> Callable[..., None]:
    """Hold a value against the golden file of a name, or write it where that is asked for.

    `trained` says that it comes from a fresh training.
    """

    def check(name: str, now: Any, *, trained: bool = False) -> None:
        path = GOLDEN / f"{name}.json"
        now = json.loads(json.dumps(now))
        if updating:
            path.write_text(json.dumps(now, indent=1, ensure_ascii=False) + "\n", "utf-8")
            return
        kept = json.loads(path.read_text("utf-8"))
        found = list(comparing.differences(kept, now, elsewhere=trained and elsewhere))
        if found:
            pytest.fail(f"{name} is not as it was frozen:\n" + "\n".join(sorted(found)))

    return check


@pytest.fixture
def frozen_command(
    frozen: Callable[..., None], comparing: Any, replaced: dict[str, str]
) -> Callable[..., None]:
    """Hold exit code and stdout of a command against the golden file of a name.

    A JSON document is compared value by value; of a text only its words are. Messages on
    stderr are compared where the command failed.
    """

    def check(name: str, ran: Ran, *, trained: bool = False) -> None:
        try:
            stdout = comparing.normalize(ran.json, replaced)
        except json.JSONDecodeError:
            stdout = comparing.words(ran.stdout, replaced)
        now = {"code": ran.code, "stdout": stdout}
        if ran.code:
            now["stderr"] = comparing.words(ran.stderr, replaced)
        frozen(name, now, trained=trained)

    return check


@pytest.fixture(scope="session")
def compressed(invoke: Callable[..., Ran], home: Path) -> Ran:
    """The tiny recipe, compressed into `run`."""
    ran = invoke("compress", "tiny.yaml", "--out", "run", "--json")
    assert ran.code == 0, ran.stderr
    return ran


@pytest.fixture(scope="session")
def staged(invoke: Callable[..., Ran], home: Path) -> dict[str, Ran]:
    """Each stage alone, on what the stages before it left in the old run, into `staged`.

    So what training makes of other roundings reaches no later stage.
    """
    commands = {
        "train": (),
        "distill": ("--teacher", "old/run/teacher"),
        "export": ("--student", "old/run/student", "--with-saliency"),
        "optimize": ("--model", "old/run/model/student.onnx"),
        "bundle": (
            *("--teacher", "old/run/teacher", "--student", "old/run/student"),
            *("--variants", "old/run/variants"),
        ),
    }
    done = {}
    for name, options in commands.items():
        done[name] = invoke(name, "tiny.yaml", *options, "--out", f"staged/{name}", "--json")
        assert done[name].code == 0, done[name].stderr
    return done


@pytest.fixture(scope="session")
def experimented(invoke: Callable[..., Ran]) -> Ran:
    """The tiny plan, run into `experiment`."""
    ran = invoke("experiment", "run", "plan.yaml", "--out", "experiment", "--jobs", "1", "--json")
    assert ran.code == 0, ran.stderr
    return ran


def tree(path: Path) -> list[str]:
    """Return the names of all files in a folder or a zip, in order."""
    if path.is_file():
        with zipfile.ZipFile(path) as archive:
            return sorted(archive.namelist())
    return sorted(str(each.relative_to(path)) for each in path.rglob("*") if each.is_file())


def arrays(path: Path | io.BytesIO) -> dict[str, Any]:
    """Return what is in an NPZ: types, shapes, and a mean of each array."""
    with np.load(path, allow_pickle=False) as file:
        return {
            name: {
                "dtype": str(file[name].dtype) if file[name].dtype.kind != "U" else "str",
                "shape": list(file[name].shape),
                "mean": float(file[name].mean()) if file[name].dtype.kind in "fiub" else None,
            }
            for name in sorted(file.files)
        }


@pytest.fixture(scope="session")
def contents(comparing: Any, replaced: dict[str, str]) -> Callable[[Path], dict[str, Any]]:
    """Return the files of a folder or a zip: names, and what JSON and NPZ files hold."""

    def read(path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in tree(path):
            if path.is_file():
                with zipfile.ZipFile(path) as archive:
                    data = archive.read(name)
            else:
                data = (path / name).read_bytes()
            if name.endswith(".json"):
                value = comparing.normalize(json.loads(data), replaced)
            elif name.endswith(".npz") and not name.startswith(".work"):
                value = arrays(io.BytesIO(data))
            elif name.endswith((".md", ".yaml", ".csv")):
                value = comparing.words(data.decode(), replaced)
            else:
                value = None
            found[comparing.normalize(name, replaced)] = value
        return found

    return read


@pytest.fixture(scope="session")
def lines(comparing: Any, replaced: dict[str, str]) -> Callable[[Ran], dict[str, Any]]:
    """Return what a command of the device side said: a document, one a line, or words."""

    def read(ran: Ran) -> dict[str, Any]:
        try:
            stdout = [json.loads(ran.stdout)]
        except json.JSONDecodeError:
            try:
                stdout = [json.loads(line) for line in ran.stdout.splitlines()]
            except json.JSONDecodeError:
                stdout = comparing.words(ran.stdout, replaced)
        stderr = comparing.words(ran.stderr, replaced)
        return {
            "code": ran.code,
            "stdout": comparing.normalize(stdout, replaced),
            "stderr": [line for line in stderr if not line.startswith(("usage:", "["))],
        }

    return read
