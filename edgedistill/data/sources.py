"""From a name, a file or a folder to a checked `Source`."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from edgedistill.data.npz_files import read_npz
from edgedistill.data.series import RawSeries, Source, spread_per_class
from edgedistill.data.tables import read_csv, read_ucr
from edgedistill.data.ts_files import is_classification, read_ts
from edgedistill.data.wav_folders import read_wav_folder, wav_files
from edgedistill.errors import ConfigError, DataError, MachineError

_READERS: dict[str, Callable[[Path], RawSeries]] = {
    ".ts": read_ts,
    ".tsv": read_ucr,
    ".txt": read_ucr,
    ".csv": read_csv,
    ".npz": read_npz,
}
_TRAIN_FILE = "_TRAIN.ts"  # end of a bundled set's name


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How many series are read.

    Raises:
        ConfigError: a value is not allowed.
    """

    limit_per_class: int | None = None  # series for each class and split, spread over the file

    def __post_init__(self) -> None:
        if self.limit_per_class is not None and self.limit_per_class < 1:
            raise ConfigError(f"limit_per_class must be at least 1, got {self.limit_per_class}.")


def load(data: str, test: str | None = None, *, options: ReadOptions | None = None) -> Source:
    """Read a data set.

    Args:
        data: a file (.ts, .tsv, .txt, .csv, .npz), a folder, or the name of a bundled set. A
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
    return Source(
        name=_name(train_path),
        train=_read(train_path, options),
        test=None if test_path is None else _read(test_path, options),
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
        (p for p in folder.glob("*_TRAIN.*") if p.suffix in _READERS),
        key=lambda p: list(_READERS).index(p.suffix),
    )
    own = [p for p in files if p.stem == f"{folder.resolve().name}_TRAIN"]
    if own:
        return own[0]
    if len({p.stem for p in files}) == 1:
        return files[0]
    raise DataError(
        f"{folder} holds {', '.join(p.name for p in files) or 'neither _TRAIN files nor sounds'}. "
        "Name the one file to read, or a folder with one NAME_TRAIN file (.ts, .tsv, .txt, .csv, "
        ".npz) or with WAV files."
    )


def _sibling(path: Path) -> Path | None:
    if not path.stem.endswith("_TRAIN"):
        return None
    test = path.with_name(f"{path.stem.removesuffix('_TRAIN')}_TEST{path.suffix}")
    return test if test.exists() else None


def _read(path: Path, options: ReadOptions) -> RawSeries:
    if path.is_dir():
        return read_wav_folder(path, options.limit_per_class)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"{path} ends in {path.suffix!r}, which is not read. Convert it to one of "
            f"{', '.join(_READERS)}."
        )
    raw = reader(path)
    if options.limit_per_class is None:
        return raw
    return raw.take(spread_per_class(raw.labels, options.limit_per_class))


def _aeon_folder() -> Path:
    """Folder of aeon's data sets; aeon's own loaders would download a name they lack."""
    spec = find_spec("aeon")
    if spec is None or not spec.submodule_search_locations:
        raise MachineError(
            "The bundled data sets come with aeon, which is not installed here. "
            "Run: pip install aeon"
        )
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data"
