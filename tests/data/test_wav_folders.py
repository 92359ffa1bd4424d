"""Folders of sounds give waveforms in [-1, 1] with labels from names."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.io import wavfile

from edgedistill.data.wav_folders import read_wav_folder
from edgedistill.errors import DataError


def _write(path, samples, rate=8000):
    path.parent.mkdir(parents=True, exist_ok=True)
    wavfile.write(path, rate, np.asarray(samples))
    return path


SOUND = np.array([0, 16384, -32768, 32767], dtype=np.int16)


def test_flat_folder_has_labels_in_file_names(tmp_path):
    """As in `7_jackson_32.wav`; sounds keep their own lengths."""
    _write(tmp_path / "7_jackson_32.wav", SOUND)
    _write(tmp_path / "no_lucas_1.WAV", SOUND[:3])

    raw = read_wav_folder(tmp_path, None)

    assert raw.labels == ["7", "no"]
    assert raw.sample_rate_hz == 8000
    assert [one.shape for one in raw.series] == [(1, 4), (1, 3)]


def test_subfolders_are_labels(tmp_path):
    """Hidden files and other files are ignored."""
    _write(tmp_path / "yes" / "a.wav", SOUND)
    _write(tmp_path / "no" / "a.wav", SOUND)
    (tmp_path / "no" / "._a.wav").write_bytes(b"")
    (tmp_path / "README.md").write_text("sounds")

    assert read_wav_folder(tmp_path, None).labels == ["no", "yes"]


@pytest.mark.parametrize(
    "samples",
    [
        SOUND,
        SOUND.astype(np.int32) << 16,
        np.array([128, 192, 0, 255], dtype=np.uint8),
        np.array([0, 0.5, -1, 1], dtype=np.float32),
    ],
    ids=lambda s: str(s.dtype),
)
def test_every_sample_format_has_the_same_scale(samples, tmp_path):
    """Full scale is 1, for each width of a sample."""
    _write(tmp_path / "a_1.wav", samples)

    sound = read_wav_folder(tmp_path, None).series[0]

    np.testing.assert_allclose(sound, [[0, 0.5, -1, 1]], atol=1 / 127)
    assert sound.dtype == np.float32


def test_several_channels_become_their_mean(tmp_path):
    """One microphone on the board."""
    _write(tmp_path / "a_1.wav", np.stack([SOUND, np.zeros_like(SOUND)], axis=1))

    sound = read_wav_folder(tmp_path, None).series[0]

    np.testing.assert_allclose(sound, [[0, 0.25, -0.5, 0.5]], atol=1e-4)


def test_limit_leaves_other_files_unread(tmp_path):
    """The damaged file in the middle is not among the two."""
    for index in (1, 3):
        _write(tmp_path / f"a_{index}.wav", SOUND)
    (tmp_path / "a_2.wav").write_bytes(b"broken")

    assert read_wav_folder(tmp_path, 2).labels == ["a", "a"]


def test_chunks_of_metadata_are_ignored(tmp_path):
    """Editors add them."""
    path = _write(tmp_path / "a_1.wav", SOUND)
    whole = bytearray(path.read_bytes() + b"junk" + (4).to_bytes(4, "little") + b"abcd")
    whole[4:8] = (len(whole) - 8).to_bytes(4, "little")
    path.write_bytes(whole)

    assert read_wav_folder(tmp_path, None).series[0].shape == (1, 4)


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"RIFF",
        lambda _: b"text" * 20,
        lambda whole: whole[:-4],
        lambda whole: whole.replace(b"data", b"atad"),
        lambda whole: whole[:32] + bytes(2) + whole[34:],
    ],
    ids=["four bytes", "foreign", "cut off", "no data chunk", "samples of no width"],
)
def test_error_of_an_unreadable_sound_has_its_path(damage, tmp_path):
    """Any error of SciPy becomes ours."""
    path = _write(tmp_path / "a_1.wav", SOUND)
    path.write_bytes(damage(path.read_bytes()))

    with pytest.raises(DataError, match=r"a_1\.wav is not a whole WAV file"):
        read_wav_folder(tmp_path, None)


def test_file_name_without_a_label_is_refused(tmp_path):
    """No label is assumed."""
    _write(tmp_path / "hello.wav", SOUND)

    with pytest.raises(DataError, match=r"hello\.wav has no label"):
        read_wav_folder(tmp_path, None)


def test_two_sample_rates_are_refused(tmp_path):
    """The same tone would differ."""
    _write(tmp_path / "a_1.wav", SOUND)
    _write(tmp_path / "b_1.wav", SOUND, rate=16000)

    with pytest.raises(DataError, match=r"b_1.wav has 16000 samples a second, .*a_1.wav has 8000"):
        read_wav_folder(tmp_path, None)
