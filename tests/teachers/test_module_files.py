"""The source files that a teacher's module consists of."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgedistill.teachers.module_files import module_files


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package and a module that import each other in every form, at the head of the path."""
    sources = {
        "mine/__init__.py": "from .layers import block",
        "mine/net.py": "import torch.nn, json, numpy as np\nfrom . import sizes\nimport helper",
        "mine/layers.py": "def block():\n    from .deep.blocks import size\n    import absent",
        "mine/sizes.py": "from mine.net import *",
        "mine/deep/blocks.py": "size = 1",
        "mine/unused.py": "",
        "helper.py": "import broken_here",
        "broken_here.py": "def (",
        "unused.py": "",
    }
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_modules_that_are_imported_from_anywhere_in_the_source(folder):
    """Relative, in functions, of namespace packages; torch and the standard library are not."""
    files = module_files("mine.net")

    names = {"mine", "mine.net", "mine.layers", "mine.sizes", "mine.deep.blocks"}
    assert files.keys() == names | {"helper", "broken_here"}
    assert files["mine"] == folder / "mine" / "__init__.py"
    assert files["mine.deep.blocks"] == folder / "mine" / "deep" / "blocks.py"


def test_nothing_is_imported(folder):
    (folder / "helper.py").write_text("raise SystemExit")

    assert "helper" in module_files("mine.net")


def test_package_that_is_installed_counts_only_if_it_is_named():
    assert "safetensors.torch" in module_files("safetensors.torch")
    assert not any(name.startswith("torch") for name in module_files("safetensors.torch"))


@pytest.mark.parametrize("name", ["absent_module", "", ".relative", "json.absent", "sys.inner"])
def test_module_that_is_not_there_has_no_files(name):
    files = module_files(name)

    assert name not in files


@pytest.mark.parametrize("name", ["edgedistill.models.families", "torch.nn"])
def test_modules_of_ours_and_of_torch_are_not_followed(name):
    """Their version stands for their source, and unloading them would crash a running program."""
    assert module_files(name) == {}
