"""The log energies agree with SciPy and with the definition of the mel scale."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import spectrogram

from edgedistill.preprocessing.log_mel import MEL_BANDS, log_mel, mel_bank


@pytest.mark.parametrize(("rate", "width", "hop"), [(8000, 200, 80), (16000, 400, 160)])
def test_frames_agree_with_scipy(rate, width, hop, rng):
    """Window, hop and transform are those of SciPy's spectrogram."""
    wave = rng.normal(size=rate // 4)
    size = {200: 256, 400: 512}[width]
    _, _, magnitude = spectrogram(
        wave,
        window="hann",  # periodic
        nperseg=width,
        noverlap=width - hop,
        nfft=size,
        detrend=False,
        scaling="spectrum",
        mode="magnitude",
    )
    total = (0.5 * width) ** 2  # SciPy divides by the sum of the window, squared

    expected = np.log(mel_bank(rate, MEL_BANDS) @ (magnitude**2 * total) + 1e-6)

    np.testing.assert_allclose(log_mel(wave, rate, MEL_BANDS), expected, rtol=1e-9)


@pytest.mark.parametrize("rate", [4000, 8000, 16000, 44100])
def test_filters_cover_every_frequency_between_the_outer_centers(rate):
    """Neighboring triangles add up to one, so no pitch is lost, and no band is empty."""
    bank = mel_bank(rate, MEL_BANDS)
    frequencies = np.linspace(0, rate / 2, bank.shape[1])
    mels = np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), MEL_BANDS + 2)
    low, high = 700 * (10 ** (mels[[1, -2]] / 2595) - 1)
    inside = (frequencies >= low) & (frequencies <= high)

    np.testing.assert_allclose(bank[:, inside].sum(axis=0), 1, atol=1e-9)
    assert bank.any(axis=1).all()


def test_a_tone_is_loudest_in_the_band_around_it():
    """A pitch of 1000 Hz, which is 1000 mel, falls into the band whose center is nearest."""
    wave = np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000)
    mels = np.linspace(0, 2595 * np.log10(1 + 4000 / 700), MEL_BANDS + 2)[1:-1]

    loudest = log_mel(wave, 8000, MEL_BANDS).mean(axis=1).argmax()

    assert loudest == np.abs(mels - 1000).argmin()


def test_silence_and_a_short_sound_give_finite_frames():
    """Digital silence has no logarithm of its own, and a click is shorter than a frame."""
    assert np.isfinite(log_mel(np.zeros(800), 8000, MEL_BANDS)).all()
    assert log_mel(np.ones(10), 8000, MEL_BANDS).shape == (MEL_BANDS, 1)
