"""What goes to the boards is verified before anybody is connected to."""

from __future__ import annotations

import zipfile

import pytest

from edgedistill.bundle.reader import open_bundle
from edgedistill.deployment.payload import prepare_payload
from edgedistill.errors import IntegrityError, UsageError
from edgedistill.io import archives, files


def test_zip_is_uploaded_unchanged(bundles):
    """Its bytes are what the board will verify."""
    with prepare_payload(bundles["first"]) as shipped:
        assert shipped.archive.path == bundles["first"]
        assert shipped.archive.sha256 == files.sha256(bundles["first"])
        assert (shipped.name, shipped.runtime) == ("first", "onnxruntime")
        assert shipped.program.path.read_bytes().startswith(b"#!/usr/bin/env python3\nPK")
        assert shipped.needed_bytes > 2 * shipped.unpacked_bytes


def test_a_folder_is_packed_the_same_every_time(bundles, tmp_path):
    """So that a second deployment finds it on the board; it opens as the folder does."""
    root = tmp_path / "bundle"
    archives.unpack(bundles["first"], root)

    with prepare_payload(root) as one, prepare_payload(root) as other:
        assert one.archive.sha256 == other.archive.sha256
        with open_bundle(one.archive.path) as opened:
            assert opened.name == "first"


def test_nothing_is_left_on_this_machine(bundles):
    """The program is written for as long as it is needed."""
    with prepare_payload(bundles["first"]) as shipped:
        path = shipped.program.path

    assert not path.exists()


def test_unsigned_bundle_needs_the_option(bundles):
    """And the message has it."""
    with pytest.raises(IntegrityError, match=r"is not signed.*edgedistill sign .*--unsigned"):
        prepare_payload(bundles["unsigned"]).__enter__()
    with prepare_payload(bundles["unsigned"], unsigned=True) as shipped:
        assert shipped.name == "ItalyPowerDemand"


def test_a_damaged_bundle_is_refused_here(bundles, tmp_path):
    """A byte of a model is another."""
    root = tmp_path / "bundle"
    archives.unpack(bundles["first"], root)
    (model,) = (root / "models").iterdir()
    model.write_bytes(model.read_bytes()[:-1] + b"\1")
    archives.pack(root, tmp_path / "damaged.zip")

    with pytest.raises(IntegrityError):
        prepare_payload(tmp_path / "damaged.zip").__enter__()
    assert zipfile.is_zipfile(tmp_path / "damaged.zip")


def test_a_model_that_is_not_there_is_refused_here(bundles):
    """Before any board is asked."""
    with pytest.raises(UsageError, match="holds no model 'int4'"):
        prepare_payload(bundles["first"], model="int4").__enter__()
