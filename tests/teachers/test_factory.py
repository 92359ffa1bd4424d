"""Weights and source of torch modules, as people have them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model

from edgedistill.errors import ModelError, UsageError
from edgedistill.teachers.factory import load_module, source_hashes

NETS = """
import torch
from torch import nn
from scaling import FACTOR

class Net(nn.Module):
    def __init__(self, channels=1, classes=2):
        super().__init__()
        self.body = nn.Conv1d(channels, 4, 3)
        self.head = nn.Linear(4, classes)

    def forward(self, x):
        return FACTOR * self.head(self.body(x).mean(-1))

class Lit(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = Net()

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(8, 8)
        self.decode = nn.Linear(8, 8)
        self.decode.weight = self.encode.weight

class Untied(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode, self.decode = nn.Linear(8, 8), nn.Linear(8, 8)

class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 2))

def required(n_in, n_out):
    return Net(n_in, n_out)

def raising():
    raise KeyError("width")
"""
SIZES = {"channels": 1, "classes": 2, "length": 8}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a module of networks, and one that it imports."""
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "scaling.py").write_text("FACTOR = 1")
    monkeypatch.chdir(tmp_path)
    for name in ("nets", "scaling"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def load(name: str, state: dict[str, torch.Tensor] | None = None, notes: list[str] | None = None):
    if state is not None:
        save_file(state, "w.safetensors")
    weights = None if state is None else Path("w.safetensors")
    report = (lambda _: None) if notes is None else notes.append
    return load_module(f"nets:{name}", weights=weights, on_note=report, **SIZES)


def renamed(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in state.items()}


def assert_equal_states(module: torch.nn.Module, state: dict[str, torch.Tensor]) -> None:
    assert module.state_dict().keys() == state.keys()
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=0, atol=0)


@pytest.mark.parametrize(
    "prefix", ["model.", "module.", "_orig_mod.", "model._orig_mod.", "my.net."]
)
def test_prefix_of_a_wrapper_is_taken_off_and_reported(folder, prefix):
    state, notes = load("Net").state_dict(), []

    module = load("Net", renamed(state, prefix), notes)

    assert_equal_states(module, state)
    assert len(notes) == 2 - (prefix.count("_orig_mod.") != 1 or prefix == "_orig_mod.")
    assert all("w.safetensors" in note for note in notes)


def test_compiled_layer_inside_is_taken(folder):
    state, notes = load("Net").state_dict(), []
    names = {name.replace("body.", "body._orig_mod."): value for name, value in state.items()}

    assert_equal_states(load("Net", names, notes), state)
    assert "_orig_mod." in notes[0]


def test_prefix_that_the_file_lacks_is_put_on(folder):
    state, notes = load("Net").state_dict(), []

    module = load("Lit", state, notes)

    assert_equal_states(module.model, state)
    assert "with the prefix 'model.'" in notes[0]


def test_exact_names_report_nothing(folder):
    notes: list[str] = []

    load("Net", load("Net").state_dict(), notes)

    assert notes == []


def test_prefix_with_other_tensors_beside_is_refused(folder):
    state = renamed(load("Net").state_dict(), "model.") | {"criterion.weight": torch.ones(2)}

    with pytest.raises(ModelError, match=r"4 missing .*; 5 unexpected \(.*criterion"):
        load("Net", state)


@pytest.mark.parametrize("target", ["Tied", "Untied"])
@pytest.mark.parametrize("prefix", ["", "model."])
def test_tied_weights_of_save_model(folder, target, prefix):
    """`save_model` writes one of the two, and the name of the other into the metadata."""
    tied = load("Tied")
    saved = torch.nn.ModuleDict({"model": tied}) if prefix else tied
    save_model(saved, "w.safetensors")

    module = load_module(f"nets:{target}", weights=Path("w.safetensors"), **SIZES)

    assert_equal_states(module, tied.state_dict())


def test_tied_weights_without_metadata(folder):
    tied = load("Tied")
    state = {name: value.clone() for name, value in tied.state_dict().items()}
    del state["decode.weight"]

    module = load("Tied", state)

    assert module.decode.weight is module.encode.weight
    assert_equal_states(module, tied.state_dict())
    with pytest.raises(ModelError, match=r"1 missing \(decode\.weight\)"):
        load("Untied", state)


def test_old_names_of_weight_norm_are_converted_by_torch(folder):
    module = load("Normed")
    g, v = module.layer.parametrizations.weight.original0, module.layer.weight.detach()
    state = {"layer.weight_g": g.detach(), "layer.weight_v": 2 * v, "layer.bias": torch.ones(2)}

    loaded = load("Normed", state)

    torch.testing.assert_close(loaded.layer.weight, module.layer.weight)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("required", r"required fails: TypeError: .*'n_in' and 'n_out'\. .*all others need a def"),
        ("raising", r"raising fails: KeyError: 'width' \(nets\.py, line \d+\)"),
    ],
)
def test_factory_that_fails_is_reported(folder, name, message):
    with pytest.raises(ModelError, match=message):
        load(name)


@pytest.mark.parametrize(
    "text", ["def (", "1 / 0", "import absent_module", "raise KeyError(1)", "raise SystemExit(0)"]
)
def test_module_that_fails_is_reported(folder, text):
    (folder / "scaling.py").write_text(text)

    with pytest.raises(UsageError, match="Cannot import 'nets'"):
        load("Net")


@pytest.mark.parametrize("name", ["nets", "scaling"])
def test_edited_source_is_imported_anew(folder, name):
    """In the same process, within a second, to a source of equal size."""
    x = torch.ones(1, 1, 8)
    module = load("Net")
    state, before = module.state_dict(), module(x)
    path = folder / f"{name}.py"
    text = path.read_text()
    edited = text.replace("FACTOR = 1", "FACTOR = 2").replace("FACTOR *", "FACTOR /")
    stamp = path.stat()
    path.write_text(edited)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))

    after = load("Net", state)(x)

    head = torch.nn.functional.linear(
        module.body(x).mean(-1), **dict(module.head.named_parameters())
    )
    torch.testing.assert_close(before, head)
    torch.testing.assert_close(after, 2 * head if name == "scaling" else 1 / head)


def test_module_of_the_same_name_in_another_folder(folder, tmp_path_factory, monkeypatch):
    """Two projects of one process may both have a `nets`."""
    load("Net")
    other = tmp_path_factory.mktemp("other")
    (other / "nets.py").write_text(NETS.replace("4, 3", "5, 3").replace("(4,", "(5,"))
    (other / "scaling.py").write_text("FACTOR = 1")

    monkeypatch.chdir(other)

    assert load("Net").body.out_channels == 5


def test_unedited_source_is_not_imported_twice(folder):
    load("Net")
    module = sys.modules["nets"]

    load("Net")

    assert sys.modules["nets"] is module


def test_source_hashes_change_with_each_module(folder):
    first = source_hashes("nets:Net")
    (folder / "scaling.py").write_text("FACTOR = 3")
    second = source_hashes("nets:Net")

    assert first.keys() == {"nets", "scaling"}
    assert first["nets"] == second["nets"]
    assert first["scaling"] != second["scaling"]
    assert source_hashes("model.onnx") == {}
    assert np.all([len(value) == 64 for value in first.values()])
