"""The manifest: every contradiction is named."""

from __future__ import annotations

import copy
import json

import pytest

from edgedistill.bundle import manifest
from edgedistill.errors import IntegrityError

SOUND = {
    "format": "edgedistill.bundle/1",
    "name": "n",
    "created": "2026-01-02T03:04:05Z",
    "class_names": ["a", "b"],
    "preprocessing": {},
    "plan": {},
    "contract": {},
    "chosen": "m",
    "models": [
        {
            "name": "m",
            "file": "models/m.onnx",
            "runtime": "onnxruntime",
            "precision": "fp32",
            "size_bytes": 3,
            "parameters": 1,
        }
    ],
    "golden": "golden.npz",
    "provenance": {"recipe": {}, "versions": {}, "seeds": {}, "data": ""},
    "files": {
        "models/m.onnx": {"sha256": "0" * 64, "size_bytes": 3},
        "golden.npz": {"sha256": "1" * 64, "size_bytes": 4},
    },
}


def _read(tmp_path, facts):
    path = tmp_path / "manifest.json"
    path.write_text(facts if isinstance(facts, str) else json.dumps(facts))
    return manifest.read(path)


def _changed(where, value):
    """Return the sound manifest with one value replaced, or removed if it is `del`."""
    facts = copy.deepcopy(SOUND)
    inner = facts
    for key in where[:-1]:
        inner = inner[key]
    if value == "del":
        del inner[where[-1]]
    else:
        inner[where[-1]] = value
    return facts


def test_sound_manifest_is_read(tmp_path):
    """The starting point of all changes below is sound."""
    assert _read(tmp_path, SOUND) == SOUND


def test_a_model_may_have_session_settings(tmp_path):
    """The field is there only of models that were tuned."""
    facts = _changed(["models", 0, "session"], {"threads": 2})

    assert _read(tmp_path, facts) == facts


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (["name"], "del", "manifest lacks name and has unknown nothing"),
        (["extra"], 1, "manifest lacks nothing and has unknown extra"),
        (["name"], 7, "manifest: name is 7, not a string"),
        (["models", 0], "m", r"models\[0\] is 'm', not an object"),
        (["models", 0, "parameters"], True, r"models\[0\]: parameters is True, not a whole number"),
        (["models", 0, "file"], "del", r"models\[0\] lacks file"),
        (["models", 0, "session"], "fast", r"models\[0\]: session is 'fast', not an object"),
        (["models", 0, "size_bytes"], 4, "'models/m.onnx' with 4 bytes, files does not"),
        (["models", 0, "file"], "other.onnx", "'other.onnx' with 3 bytes, files does not"),
        (["models"], [], "named not at all and 'm' was chosen"),
        (["chosen"], "x", "named m and 'x' was chosen"),
        (["models"], SOUND["models"] * 2, "named m, m and 'm' was chosen"),
        (["golden"], "gone.npz", "'gone.npz', which files does not list"),
        (["class_names"], ["a"], "two or more strings"),
        (["class_names"], ["a", "a"], "two or more strings"),
        (["class_names"], ["a", 1], "two or more strings"),
        (["provenance", "seeds"], [], "provenance: seeds is"),
        (["files", "golden.npz", "sha256"], "xyz", "64 hex digits"),
        (["files", "golden.npz", "size_bytes"], -1, "and -1 bytes"),
        (["files", "../up"], {"sha256": "0" * 64, "size_bytes": 1}, "'../up', which leaves"),
        (["files", "/up"], {"sha256": "0" * 64, "size_bytes": 1}, "'/up', which leaves"),
        (["files", "a//b"], {"sha256": "0" * 64, "size_bytes": 1}, "'a//b', which leaves"),
        (["files", "C:x"], {"sha256": "0" * 64, "size_bytes": 1}, "'C:x', which leaves"),
        (["files", "a\\b"], {"sha256": "0" * 64, "size_bytes": 1}, "which leaves"),
    ],
)
def test_contradictions_are_named(tmp_path, where, value, message):
    """One change to a sound manifest, one message."""
    with pytest.raises(IntegrityError, match=message):
        _read(tmp_path, _changed(where, value))


def test_newer_version_says_which_is_read(tmp_path):
    """The message names both versions and the way out."""
    newer = {"format": "edgedistill.bundle/2", "anything": "else"}

    with pytest.raises(IntegrityError, match=r"format edgedistill.bundle/2; .* reads .*bundle/1"):
        _read(tmp_path, newer)


@pytest.mark.parametrize("facts", [{}, [], {"format": 1}, {"format": "other/1"}], ids=str)
def test_other_json_is_no_bundle(tmp_path, facts):
    """Some manifest.json of another program."""
    with pytest.raises(IntegrityError, match="no bundle of ours"):
        _read(tmp_path, facts)


@pytest.mark.parametrize("text", ["", "{", "[" * 200_000], ids=["empty", "cut off", "too deep"])
def test_damaged_json_is_explained(tmp_path, text):
    """The parser's trouble is no traceback."""
    with pytest.raises(IntegrityError, match="The manifest cannot be read"):
        _read(tmp_path, text)


def test_huge_manifest_is_not_read(tmp_path):
    """A manifest of 17 MB would only serve to fill a board's memory."""
    with pytest.raises(IntegrityError, match="larger than"):
        _read(tmp_path, " " * (17 * 1024**2))
