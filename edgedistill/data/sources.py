"""From a name, a file or a folder to a checked `Source`."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from edgedistill.data.readers import READERS, is_classification
from edgedistill.data.series import RawSeries, Source, spread_per_class
from edgedistill.data.wav_folders import read_wav_folder, wav_files
from edgedistill.errors import ConfigError, DataError, MachineError
from edgedistill.formats.schema import Roles

_CONVERSIONS = {  # what turns a file of another format into one that is read
    "MAT": (
        "from scipy.io import loadmat",
        "mat = loadmat('{path}')  # print(mat.keys())",
        "numpy.savez('data.npz', x=mat['x'], y=mat['y'].ravel())",
    ),
    "HDF5": (
        "import h5py",
        "file = h5py.File('{path}')  # print(list(file))",
        "numpy.savez('data.npz', x=file['x'][:], y=file['y'][:])",
    ),
    "WFDB": (
        "import wfdb",
        "x = [wfdb.rdrecord(name).p_signal.T for name in names]  # records without suffix",
        "numpy.savez('data.npz', x=numpy.stack(x), y=labels)",
    ),
    "Hugging Face": (
        "from datasets import load_from_disk",
        "data = load_from_disk('{path}')",
        "data.to_parquet('data.parquet')",
    ),
}
_OTHER_FORMATS = {
    ".mat": "MAT",
    **dict.fromkeys((".h5", ".hdf5", ".hdf", ".he5"), "HDF5"),
    **dict.fromkeys((".hea", ".dat", ".atr"), "WFDB"),
    ".arrow": "Hugging Face",
}
_HUGGING_FACE = ("dataset_info.json", "dataset_dict.json", "state.json")  # files of a folder
_TRAIN_FILE = "_TRAIN.ts"  # end of a bundled set's name


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How many series are read, and what the columns of a table are.

    Raises:
        ConfigError: a value is not allowed.
    """

    limit_per_class: int | None = None  # series for each class and split, spread over the file
    roles: Roles = field(default_factory=Roles)  # columns that cannot be told from their names

    def __post_init__(self) -> None:
        if self.limit_per_class is not None and self.limit_per_class < 1:
            raise ConfigError(f"limit_per_class must be at least 1, got {self.limit_per_class}.")


def load(data: str, test: str | None = None, *, options: ReadOptions | None = None) -> Source:
    """Read a data set.

    Args:
        data: a file (one of `READERS`), a folder, or the name of a bundled set. A
            folder holds NAME_TRAIN and NAME_TEST files, or sounds (.wav).
        test: a file or a folder of sounds. None for the NAME_TEST file beside a NAME_TRAIN
            file; without that too, `prepare` splits test series off.
        options: number of series to read; None for all.

    Raises:
        DataError: the data cannot be found, read or used.
        ConfigError: an option is not allowed.
    """
    options = options or ReadOptions()
    train_path = _resolve(data)
    test_path = _resolve_test(test, train_path) if test is not None else _sibling(train_path)
    train = _read(train_path, options)
    return Source(
        name=_name(train_path),
        train=_limited(train, options),
        test=None if test_path is None else _limited(_read(test_path, options, train), options),
        is_test_named=test is not None,
    )


def bundled_file(name: str) -> Path:
    """Return the training file of a set of the installed aeon; its test file is beside it.

    Raises:
        DataError: no such set; the message lists those there are.
        MachineError: aeon is not installed.
    """
    files = {p.name.removesuffix(_TRAIN_FILE): p for p in _aeon_folder().glob(f"*/*{_TRAIN_FILE}")}
    if name in files:
        return files[name]
    usable = {n.lower(): n for n, p in sorted(files.items()) if is_classification(p)}
    near = difflib.get_close_matches(name.lower(), usable, n=1)
    hint = f"Did you mean {usable[near[0]]!r}? " if near else ""
    raise DataError(
        f"{name!r} is neither a file, a folder, nor a bundled data set. {hint}"
        f"Bundled are {', '.join(usable.values())}. Check the path or take one of these."
    )


def _resolve(data: str) -> Path:
    """Path of the file to read, or of a folder of sounds."""
    path = Path(data)
    if path.is_dir():
        if any((path / name).exists() for name in _HUGGING_FACE):
            _refuse_format(path, "Hugging Face")
        return path if wav_files(path) else _train_file(path)
    if path.exists():
        return path
    if path.suffix or path.name != data:
        raise DataError(f"{data} does not exist. Check the path.")
    return bundled_file(data)


def _resolve_test(test: str, train_path: Path) -> Path:
    path = Path(test)
    if not path.is_file() and not (path.is_dir() and wav_files(path)):
        raise DataError(f"{test} is neither a file nor a folder of sounds. Check the path.")
    if path.resolve() == train_path.resolve():
        raise DataError(f"{test} is the training data too. Name other series, or no test series.")
    return path


def _name(path: Path) -> str:
    absolute = path.resolve()  # "." has no name
    return absolute.name if path.is_dir() else absolute.stem.removesuffix("_TRAIN")


def _train_file(folder: Path) -> Path:
    """The NAME_TRAIN file of a folder, preferably of the folder's own name."""
    files = sorted(
        (p for p in folder.glob("*_TRAIN.*") if p.suffix in READERS),
        key=lambda p: list(READERS).index(p.suffix),
    )
    own = [p for p in files if p.stem == f"{folder.resolve().name}_TRAIN"]
    if own:
        return own[0]
    if len({p.stem for p in files}) == 1:
        return files[0]
    raise DataError(
        f"{folder} holds {', '.join(p.name for p in files) or 'neither _TRAIN files nor sounds'}. "
        "Name the one file to read, or a folder with WAV files or with one NAME_TRAIN file "
        f"({', '.join(READERS)})."
    )


def _sibling(path: Path) -> Path | None:
    """The NAME_TEST file beside a NAME_TRAIN file, or NAME_test beside NAME_train."""
    for train, test in (("_TRAIN", "_TEST"), ("_train", "_test")):
        sibling = path.with_name(f"{path.stem.removesuffix(train)}{test}{path.suffix}")
        if path.stem.endswith(train) and sibling.exists():
            return sibling
    return None


def _read(path: Path, options: ReadOptions, train: RawSeries | None = None) -> RawSeries:
    """Read a file or a folder; test series by the schema of the training series."""
    if path.is_dir():
        return read_wav_folder(path, options.limit_per_class)
    suffix = path.suffix.lower()
    reader = READERS.get(suffix)
    if reader is None:
        _refuse_format(path, _OTHER_FORMATS.get(suffix))
        raise DataError(
            f"{path} ends in {path.suffix!r}, which is not read. Convert it to one of "
            f"{', '.join(READERS)}."
        )
    return reader(path, options.roles, train)


def _limited(raw: RawSeries, options: ReadOptions) -> RawSeries:
    if options.limit_per_class is None:
        return raw
    return raw.take(spread_per_class(raw.labels, options.limit_per_class))


def _refuse_format(path: Path, name: str | None) -> None:
    """Refuse a file or folder of a known other format, with the lines that convert it."""
    if name is None:
        return
    lines = "\n".join(f"  {line.format(path=path)}" for line in _CONVERSIONS[name])
    raise DataError(
        f"{path} has the {name} format, which is not read. Convert it in Python:\n{lines}"
    )


def _aeon_folder() -> Path:
    """Folder of aeon's data sets; aeon's own loaders would download a name they lack."""
    spec = find_spec("aeon")
    if spec is None or not spec.submodule_search_locations:
        raise MachineError(
            "The bundled data sets come with aeon, which is not installed here. "
            "Run: pip install aeon"
        )
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data"
