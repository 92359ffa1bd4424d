"""Folders of WAV files: the label is the subfolder, or the file name up to the first `_`."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np

from edgedistill.data.series import RawSeries, spread_per_class
from edgedistill.errors import DataError
from edgedistill.io.arrays import AnyArray, Doubles, Floats

# Where a chunk is missing or holds a zero, SciPy fails on its own variables.
_UNREADABLE = (OSError, ValueError, NameError, ArithmeticError, struct.error)


def wav_files(folder: Path) -> list[Path]:
    """List the WAV files of a folder or of its subfolders, sorted."""
    paths = [*folder.glob("*"), *folder.glob("*/*")]
    return sorted(p for p in paths if p.suffix.lower() == ".wav" and not p.name.startswith("."))


def read_wav_folder(folder: Path, limit_per_class: int | None) -> RawSeries:
    """Read the sounds of a folder as (1, T_i) in [-1, 1]; several channels become their mean.

    Args:
        folder: folder of WAV files named `label_...wav`, or of a subfolder for each label.
        limit_per_class: number of sounds at most for each label; None for all.

    Raises:
        DataError: a file has no label or cannot be read, or the sample rates differ.
    """
    files = wav_files(folder)
    labels = [_label(path, folder) for path in files]
    if limit_per_class is not None:
        indices = spread_per_class(labels, limit_per_class)
        files, labels = [files[i] for i in indices], [labels[i] for i in indices]
    sounds = [_read(path) for path in files]
    rate = sounds[0][0]
    for path, (other, _) in zip(files, sounds, strict=True):
        if other != rate:
            raise DataError(
                f"{path} has {other} samples a second, {files[0]} has {rate}. Bring all to one "
                f"rate, for example: ffmpeg -i {path.name} -ar {rate} new.wav"
            )
    return RawSeries(
        series=[sound for _, sound in sounds],
        labels=labels,
        origin=str(folder),
        sample_rate_hz=rate,
    )


def _label(path: Path, folder: Path) -> str:
    if path.parent != folder:
        return path.parent.name
    label, underscore, _ = path.stem.partition("_")
    if not (label and underscore):
        raise DataError(
            f"{path} has no label: name it label_anything.wav, or put it into a folder named "
            "after its label."
        )
    return label


def _read(path: Path) -> tuple[int, Floats]:
    """Read the sample rate in Hz and the sound (1, T)."""
    from scipy.io import wavfile  # takes half a second, and few sets are sounds

    try:
        with warnings.catch_warnings():
            # Editors add chunks with titles and tags, which are no part of the sound.
            warnings.filterwarnings("ignore", r"Chunk \(non-data\)", wavfile.WavFileWarning)
            # A cut-off file is half a sound.
            warnings.filterwarnings("error", "Reached EOF", wavfile.WavFileWarning)
            rate, samples = wavfile.read(path)
    except (*_UNREADABLE, wavfile.WavFileWarning) as error:
        raise DataError(
            f"{path} is not a whole WAV file: {error}. Copy it again, or convert it to 16-bit PCM."
        ) from error
    scaled = _scaled(samples)
    mono = scaled.mean(axis=1) if scaled.ndim == 2 else scaled
    return int(rate), mono.astype(np.float32)[None, :]


def _scaled(samples: AnyArray) -> Doubles:
    """Scale samples to [-1, 1]; SciPy moves 24 bits to the top of 32, and 8 bits are unsigned."""
    scaled = samples.astype(np.float64)
    if samples.dtype.kind == "f":
        return scaled
    middle = 2.0 ** (8 * samples.dtype.itemsize - 1)
    return (scaled - middle if samples.dtype.kind == "u" else scaled) / middle
