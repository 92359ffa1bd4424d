"""A name, a file or a folder becomes a data set, or an error with the next step."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy.io import wavfile

from edgedistill.data import ReadOptions, load
from edgedistill.data.readers import read_ts
from edgedistill.data.sources import bundled_file
from edgedistill.errors import ConfigError, DataError, MachineError
from edgedistill.formats.schema import Roles

ROWS = "1\t1\t2\t3\n2\t4\t5\t6\n"


@pytest.fixture
def sounds(tmp_path):
    """A folder of four sounds of two labels."""
    folder = tmp_path / "words"
    folder.mkdir()
    for name in ("yes_1", "yes_2", "no_1", "no_2"):
        wavfile.write(folder / f"{name}.wav", 8000, np.arange(20, dtype=np.int16))
    return folder


def test_a_bundled_set_brings_its_test_series():
    """The archive's own split is kept."""
    source = load("GunPoint")

    assert source.name == "GunPoint"
    assert len(source.train.labels) == 50
    assert source.test is not None
    assert len(source.test.labels) == 150


@pytest.mark.parametrize("what", ["", "Toys_TRAIN.tsv"])
def test_folder_and_its_train_file_are_the_same_set(what, tmp_path):
    """With the test file beside the training file."""
    (tmp_path / "Toys_TRAIN.tsv").write_text(ROWS)
    (tmp_path / "Toys_TEST.tsv").write_text(ROWS + ROWS)

    source = load(str(tmp_path / what))

    assert source.name == "Toys"
    assert source.test is not None
    assert len(source.test.labels) == 4


def test_file_of_the_folders_name_is_preferred(tmp_path):
    """The archive has variants beside a set."""
    folder = tmp_path / "Toys"
    folder.mkdir()
    (folder / "Toys_TRAIN.tsv").write_text(ROWS)
    (folder / "Toys_eq_TRAIN.tsv").write_text(ROWS + ROWS)

    assert len(load(str(folder)).train.labels) == 2


def test_no_test_series_without_a_test_file(tmp_path):
    """`prepare` splits them off."""
    path = tmp_path / "toys.tsv"
    path.write_text(ROWS)

    source = load(str(path))

    assert source.name == "toys"
    assert source.test is None


def test_test_file_may_have_another_format(tmp_path):
    """In another format, if need be."""
    (tmp_path / "a.tsv").write_text(ROWS)
    np.savez(tmp_path / "b.npz", x=np.ones((1, 3)), y=[2])

    source = load(str(tmp_path / "a.tsv"), str(tmp_path / "b.npz"))

    assert source.test is not None
    assert source.test.labels == ["2"]


def test_a_folder_of_sounds_is_read(sounds):
    """With their sample rate."""
    source = load(str(sounds))

    assert source.name == "words"
    assert source.train.labels == ["no", "no", "yes", "yes"]
    assert source.train.sample_rate_hz == 8000


@pytest.mark.parametrize("kind", ["sounds", "table"])
def test_limit_applies_to_each_class(kind, sounds, tmp_path):
    """For files as for sounds."""
    table = tmp_path / "toys.tsv"
    table.write_text(ROWS * 3)

    source = load(
        str(sounds if kind == "sounds" else table), options=ReadOptions(limit_per_class=1)
    )

    assert len(source.train.labels) == 2


def test_limit_of_zero_is_refused():
    """At least one series is needed."""
    with pytest.raises(ConfigError, match="limit_per_class must be at least 1, got 0"):
        ReadOptions(limit_per_class=0)


@pytest.mark.parametrize("data", ["missing.tsv", "folder/missing", "./GunPoint"])
def test_error_of_a_missing_path_has_the_path(data):
    """A path is never taken for the name of a set."""
    with pytest.raises(DataError, match=f"{data} does not exist"):
        load(data)


def test_error_of_an_unknown_set_lists_the_bundled_ones():
    """With the nearest one."""
    with pytest.raises(DataError, match="Did you mean 'BasicMotions'"):
        load("BasicMotion")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "holds neither _TRAIN files nor sounds"),
        (["a_TRAIN.tsv", "b_TRAIN.tsv"], "holds a_TRAIN.tsv, b_TRAIN.tsv. Name the one file"),
    ],
)
def test_ambiguous_folder_is_refused(names, message, tmp_path):
    """There is no guess between sets."""
    for name in names:
        (tmp_path / name).write_text(ROWS)

    with pytest.raises(DataError, match=message):
        load(str(tmp_path))


def test_error_of_an_unknown_suffix_lists_the_known_ones(tmp_path):
    """To convert the file to."""
    path = tmp_path / "toys.xyz"
    path.write_bytes(b"")

    with pytest.raises(DataError, match=r"ends in '.xyz'.*\.ts, \.tsv, \.txt, \.csv, \.parquet"):
        load(str(path))


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("a.mat", "from scipy.io import loadmat"),
        ("a.h5", "import h5py"),
        ("a.hea", "import wfdb"),
        ("a.arrow", "from datasets import load_from_disk"),
        ("set/dataset_info.json", "from datasets import load_from_disk"),
    ],
)
def test_other_formats_are_refused_with_the_lines_that_convert(name, line, tmp_path):
    """Three lines of Python that write a file that is read."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")

    with pytest.raises(DataError, match=r"which is not read\. Convert it") as caught:
        load(str(path.parent if "/" in name else path))

    lines = str(caught.value).splitlines()[1:]
    assert lines[0].strip() == line
    assert len(lines) == 3


def test_lower_case_train_file_finds_its_test_file(tmp_path):
    """As in X_train.npy, which people save."""
    for split, count in (("train", 4), ("test", 2)):
        np.save(tmp_path / f"X_{split}.npy", np.ones((count, 3)))
        np.save(tmp_path / f"y_{split}.npy", np.arange(count) % 2)

    source = load(str(tmp_path / "X_train.npy"))

    assert source.test is not None
    assert source.test.labels == ["0", "1"]


def test_training_file_is_refused_as_test_set(tmp_path):
    """A test on training series proves nothing."""
    path = tmp_path / "toys.tsv"
    path.write_text(ROWS)

    with pytest.raises(DataError, match="is the training data too"):
        load(str(path), str(path))
    with pytest.raises(DataError, match="neither a file nor a folder of sounds"):
        load(str(path), "GunPoint")


def test_bundled_file_is_in_the_installed_package():
    """Its test file is beside it."""
    path = bundled_file("GunPoint")

    assert path.name == "GunPoint_TRAIN.ts"
    assert path.with_name("GunPoint_TEST.ts").exists()


@pytest.mark.parametrize("name", ["gunpoint", "GunPiont", "Gun_Point"])
def test_misspelled_set_gets_a_suggestion(name):
    """The list has classification sets alone."""
    with pytest.raises(DataError, match=r"Did you mean 'GunPoint'.*BasicMotions") as caught:
        bundled_file(name)

    assert "Covid3Month," not in str(caught.value), "a regression set"


def test_unknown_name_gets_the_list():
    """Without a suggestion if no name is near."""
    with pytest.raises(DataError, match=r"nor a bundled data set\. Bundled are ACSF1"):
        bundled_file("*")


def test_a_regression_set_is_refused():
    """It is bundled too, but has no classes."""
    with pytest.raises(DataError, match="no '@classLabel true' line"):
        read_ts(bundled_file("Covid3Month"), Roles())


def test_missing_aeon_has_an_install_command(monkeypatch):
    """A machine error."""
    monkeypatch.setitem(sys.modules, "aeon", None)  # how Python marks what cannot be imported

    with pytest.raises(MachineError, match="pip install aeon"):
        bundled_file("GunPoint")
