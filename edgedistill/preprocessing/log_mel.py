"""Sounds as the log energy in a few bands of pitch, which small networks learn well from.

A second of sound is thousands of samples, but only about a hundred frames. The board makes the
same frames, so NumPy is all this file may import.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

MEL_BANDS = 32  # 20-40 is usual for speech; fewer channels keep the student's first layer small
_WINDOW_S, _HOP_S = 0.025, 0.010  # speech is near stationary for 20-30 ms
_POWER_FLOOR = 1e-6  # above the rounding noise of 16-bit audio: silence is silence, and finite


def log_mel(
    wave: npt.NDArray[np.float64], sample_rate_hz: int, bands: int
) -> npt.NDArray[np.float64]:
    """Return the log energy of a waveform in mel bands, (bands, frames), a frame each 10 ms.

    Frames are 25 ms under a Hann window; a shorter waveform is padded with silence to one frame.

    Source: Davis & Mermelstein 1980, up to the cosine transform, which networks do without.
    """
    width, hop = round(_WINDOW_S * sample_rate_hz), round(_HOP_S * sample_rate_hz)
    padded = np.pad(wave, (0, max(0, width - len(wave))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, width)[::hop]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(width) / width)
    spectrum = np.fft.rfft(frames * window, n=_fft_size(sample_rate_hz))
    energy = mel_bank(sample_rate_hz, bands) @ (np.abs(spectrum) ** 2).T
    logs: npt.NDArray[np.float64] = np.log(energy + _POWER_FLOOR)
    return logs


def mel_bank(sample_rate_hz: int, bands: int) -> npt.NDArray[np.float64]:
    """Return triangular filters (bands, frequencies), evenly spaced on the mel scale.

    Source: O'Shaughnessy 1987, mel = 2595 log10(1 + f / 700).
    """
    top_mel = 2595 * math.log10(1 + sample_rate_hz / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top_mel, bands + 2) / 2595) - 1)  # Hz
    frequencies = np.fft.rfftfreq(_fft_size(sample_rate_hz), 1 / sample_rate_hz)
    rise = (frequencies - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - frequencies) / np.diff(edges)[1:, None]
    bank: npt.NDArray[np.float64] = np.maximum(0, np.minimum(rise, fall))
    return bank


def _fft_size(sample_rate_hz: int) -> int:
    return 1 << math.ceil(math.log2(max(2, round(_WINDOW_S * sample_rate_hz))))
