"""Every backend gives what the plain NumPy definition gives, forward and backward."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import edgedistill_kernels as kernels
import numpy as np
import pytest
from edgedistill_kernels import backends
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.slow

pytest.importorskip("numba", reason="the compiled backends need Numba")
FAST = [name for name in kernels.BACKENDS if name != "reference"]
SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"  # a thread of Python a thread: tiny only
few = settings(max_examples=3 if SIMULATED else 25, deadline=None)
SIZES = [(1, 1, 1), (2, 1, 2), (2, 5, 3)]  # N, W, K
SIZES += [] if SIMULATED else [(3, 7, 6), (5, 33, 40), (300, 64, 3)]  # the last worth two threads
TYPES = [np.float32, np.float64]
seeds = st.integers(0, 2**32 - 1)
every_backend = pytest.mark.parametrize("backend", FAST)
both_types = pytest.mark.parametrize("dtype", TYPES)
both_forms = pytest.mark.parametrize("form", ["summed", "elementwise"])


def _close(actual, expected, dtype):
    """Equal to rounding, of the largest value where terms cancel."""
    assert actual.dtype == expected.dtype == dtype
    assert actual.shape == expected.shape
    scale = max(1.0, np.abs(expected).max(initial=0))
    rounding = 2e-6 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(actual, expected, rtol=rounding, atol=rounding * scale)


def _logits(rng, size, dtype, scale=2.0):
    samples, _, classes = size
    clean = rng.normal(scale=scale, size=(samples, classes)).astype(dtype)
    return clean, rng.normal(scale=scale, size=size).astype(dtype)


# perturb


@every_backend
@both_types
@few
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), seeds, st.data())
def test_perturb_only_moves_values(backend, dtype, samples, channels, length, seed, data):
    """Exactly, with windows at both borders and between, as wide as the series and one step."""
    width = data.draw(st.integers(1, length))
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, length - width + 1, size=(samples, 3))
    starts[:, 0], starts[:, 1] = 0, length - width
    series = rng.normal(size=(samples, channels, length)).astype(dtype)
    patches = rng.normal(size=(samples, 3, channels, width)).astype(dtype)

    copies = kernels.perturb(series, starts, patches, backend=backend)

    expected = kernels.perturb(series, starts, patches, backend="reference")
    np.testing.assert_array_equal(copies, expected)
    assert copies.dtype == dtype


@pytest.mark.parametrize("backend", kernels.BACKENDS)
def test_perturb_writes_straight_into_the_buffer(backend, rng):
    """The buffer that the model reads: what is beside the copies in memory stays."""
    series, patches = rng.normal(size=(2, 1, 6)), rng.normal(size=(2, 3, 1, 2))
    starts = np.array([[0, 2, 4]] * 2)
    memory = np.full((4, 3, 1, 6), 7.0)

    copies = kernels.perturb(series, starts, patches, out=memory[1:3], backend=backend)

    assert np.shares_memory(copies, memory)
    assert copies.__array_interface__["data"] == memory[1:3].__array_interface__["data"]
    expected = kernels.perturb(series, starts, patches, backend="reference")
    np.testing.assert_array_equal(memory[1:3], expected)
    assert (memory[[0, 3]] == 7).all()


@pytest.mark.parametrize("backend", kernels.BACKENDS)
def test_a_buffer_that_does_not_fit_is_refused(backend):
    """Another shape, another type, gaps, or read-only: the message names what is wanted."""
    arrays = np.zeros((2, 1, 6)), np.zeros((2, 3), dtype=int), np.zeros((2, 3, 1, 2))
    frozen = np.zeros((2, 3, 1, 6))
    frozen.flags.writeable = False

    for out in (
        np.zeros((2, 3, 1, 5)),
        np.zeros((2, 3, 1, 6), dtype=np.float32),
        np.zeros((2, 3, 1, 12))[..., ::2],
        frozen,
    ):
        with pytest.raises(ValueError, match=r"C-contiguous float64 array of shape \(2, 3, 1, 6\)"):
            kernels.perturb(*arrays, out=out, backend=backend)


# saliency


@every_backend
@both_types
@both_forms
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_saliency_agrees_with_the_reference(backend, dtype, form, size, rng):
    """Plain and normalized."""
    logits = _logits(rng, size, dtype)

    for kernel in (kernels.window_saliency, kernels.temporal_saliency):
        expected = kernel(*logits, temperature=3.0, form=form, backend="reference")
        actual = kernel(*logits, temperature=3.0, form=form, backend=backend)
        _close(actual, expected, dtype)


@every_backend
@both_types
@both_forms
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_gradients_agree_with_the_reference(backend, dtype, form, size, rng):
    """Of the plain and the normalized scores, for the clean and the perturbed logits."""
    logits = _logits(rng, size, dtype)
    grad = rng.normal(size=size if form == "elementwise" else size[:2]).astype(dtype)

    for kernel in (kernels.window_saliency_backward, kernels.temporal_saliency_backward):
        expected = kernel(grad, *logits, temperature=3.0, backend="reference")
        actual = kernel(grad, *logits, temperature=3.0, backend=backend)
        for one, other in zip(actual, expected, strict=True):
            _close(one, other, dtype)


@pytest.mark.parametrize("backend", kernels.BACKENDS)
@both_forms
@pytest.mark.parametrize("normalized", [False, True])
def test_gradients_are_those_of_finite_differences(backend, form, normalized, rng):
    """The slow and obvious gradient of the function itself."""
    clean, perturbed = _logits(rng, (2, 3, 3), np.float64)
    forward = kernels.temporal_saliency if normalized else kernels.window_saliency
    backward = (
        kernels.temporal_saliency_backward if normalized else kernels.window_saliency_backward
    )
    grad = rng.normal(size=forward(clean, perturbed, form=form).shape)

    def loss(clean, perturbed):
        return (grad * forward(clean, perturbed, temperature=2.0, form=form)).sum()

    found = backward(grad, clean, perturbed, temperature=2.0, backend=backend)

    for which, array in enumerate((clean, perturbed)):
        for index in np.ndindex(array.shape):
            shifted = [clean.copy(), perturbed.copy()]
            shifted[which][index] += 1e-6
            up = loss(*shifted)
            shifted[which][index] -= 2e-6
            slope = (up - loss(*shifted)) / 2e-6
            assert found[which][index] == pytest.approx(slope, rel=1e-5, abs=1e-7)


@every_backend
@both_types
@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e4])
def test_saliency_of_logits_of_any_size(backend, dtype, scale, rng):
    """No overflow, and small scores that are not noise."""
    clean, perturbed = _logits(rng, (2, 5, 4), dtype, scale)

    actual = kernels.window_saliency(clean, perturbed, temperature=8.0, backend=backend)

    precise = clean.astype(float), perturbed.astype(float)
    expected = kernels.window_saliency(*precise, temperature=8.0, backend="reference")
    np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=1e-13)


@pytest.mark.parametrize("backend", kernels.BACKENDS)
def test_nan_stays_in_its_own_window(backend, rng):
    """A broken copy breaks its own score and no other."""
    clean, perturbed = _logits(rng, (2, 5, 3), np.float64)
    perturbed[1, 2, 0] = np.nan

    scores = kernels.window_saliency(clean, perturbed, backend=backend)

    assert np.argwhere(np.isnan(scores)).tolist() == [[1, 2]]


@every_backend
@both_types
@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 3, 4), (0, 4)], ids=str)
def test_normalize_agrees_with_the_reference(backend, dtype, shape, rng):
    """Of any shape, without a positive entry too; forward and backward."""
    scores, grad = rng.normal(size=shape).astype(dtype), rng.normal(size=shape).astype(dtype)

    for array in (scores, -np.abs(scores)):
        small = {"epsilon": 1e-3, "backend": backend}
        plain = {"epsilon": 1e-3, "backend": "reference"}
        _close(kernels.normalize(array, **small), kernels.normalize(array, **plain), dtype)
        actual = kernels.normalize_backward(grad, array, **small)
        _close(actual, kernels.normalize_backward(grad, array, **plain), dtype)


# maps


@every_backend
@both_types
@few
@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 12), seeds, st.data())
def test_timestep_map_agrees_with_the_reference(
    backend, dtype, samples, windows, length, seed, data
):
    """Windows at any place, and steps that none covers."""
    width = data.draw(st.integers(1, length))
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, length - width + 1, size=(samples, windows))
    scores = rng.normal(size=(samples, windows)).astype(dtype)

    actual = kernels.timestep_map(scores, starts, width=width, length=length, backend=backend)

    expected = kernels.timestep_map(scores, starts, width=width, length=length, backend="reference")
    _close(actual, expected, dtype)


@every_backend
@both_types
@pytest.mark.parametrize("windows", [1, 5] if SIMULATED else [1, 2, 9, 50, 193, 400])
def test_agreement_agrees_with_the_reference(backend, dtype, windows, rng):
    """With ties, constant maps, zeros of both signs and NaN among them."""
    first = np.round(rng.normal(size=(5, windows)), 1).astype(dtype)
    second = np.round(first + rng.normal(size=(5, windows)), 1).astype(dtype)
    first[0], second[1, 0], first[2, 0] = 0.3, np.nan, -0.0
    second[3] *= -1e6
    count = max(1, windows // 3)

    for kernel, options in (
        (kernels.pearson, {}),
        (kernels.spearman, {}),
        (kernels.top_sign_agreement, {"count": count}),
    ):
        expected = kernel(first, second, **options, backend="reference")
        _close(kernel(first, second, **options, backend=backend), expected, np.float64)


@every_backend
def test_arrays_that_are_not_contiguous(backend, rng):
    """Views with steps, transposed and read-only arrays give what their copies give."""
    clean, perturbed = _logits(rng, (6, 5, 3), np.float64)
    starts = np.broadcast_to(np.array([0, 2, 4]), (3, 3))
    series = rng.normal(size=(6, 3, 2)).T[:, :, ::1].transpose(1, 0, 2)  # (3, 2, 6)
    patches = np.broadcast_to(rng.normal(size=(1, 1, 2, 2)), (3, 3, 2, 2))

    scores = kernels.window_saliency(clean[::2], perturbed[::2, ::-1], backend=backend)
    copies = kernels.perturb(series, starts, patches, backend=backend)

    whole = clean[::2].copy(), perturbed[::2, ::-1].copy()
    _close(scores, kernels.window_saliency(*whole, backend="reference"), np.float64)
    expected = kernels.perturb(series.copy(), starts.copy(), patches.copy(), backend="reference")
    np.testing.assert_array_equal(copies, expected)


# choosing


def test_the_reference_is_always_there():
    """And first; Numba's CPU backend is here too, since this file runs."""
    assert kernels.BACKENDS[:2] == ("reference", "cpu")


def test_a_backend_that_does_not_exist_is_refused():
    """The message names those that do."""
    with pytest.raises(
        ValueError, match=r"No backend 'gpu'. There are: auto, reference, cpu, cuda"
    ):
        kernels.normalize(np.zeros(3), backend="gpu")


@pytest.mark.skipif("cuda" in kernels.BACKENDS, reason="a GPU is here, or a simulated one")
def test_cuda_without_a_gpu_is_refused():
    """The message gives the reason, and the package to install."""
    with pytest.raises(RuntimeError, match=r"'cuda' cannot run here: Numba finds no usable GPU .*"):
        kernels.normalize(np.zeros(3), backend="cuda")


@every_backend
def test_other_types_are_for_the_reference(backend):
    """By name they are refused; on its own the choice falls on the reference."""
    scores = np.ones(1 << 16, dtype=np.float16)

    with pytest.raises(TypeError, match=r"computes in float32 or float64, got float16"):
        kernels.normalize(scores, backend=backend)
    assert kernels.normalize(scores).dtype == np.float32


def test_auto_takes_compiled_code_only_where_it_pays(monkeypatch):
    """What is small stays with NumPy, which is loaded anyway."""
    small, large = np.ones(4), np.ones(1 << 16)

    assert backends.choose("auto", False, small) == "reference"
    assert backends.choose("auto", True, large) == "cpu"


def test_a_forked_process_does_without_numbas_threads(monkeypatch):
    """They do not survive the fork; GNU OpenMP would end the process."""
    fresh = backends._missing_numba.__wrapped__
    monkeypatch.setattr(backends, "_missing_numba", lambda process: fresh(process + 1))

    assert backends.choose("auto", True, np.ones(4)) == "reference"
    with pytest.raises(RuntimeError, match="this process was forked"):
        kernels.normalize(np.ones(4), backend="cpu")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kernels.normalize_backward(np.ones(3), np.ones(4)), r"gradient has shape \(3,\)"),
        (
            lambda: kernels.window_saliency_backward(
                np.ones((2, 4)), np.ones((2, 3)), np.ones((2, 5, 3))
            ),
            r"gradient has shape \(2, 4\), the scores \(2, 5\) or \(2, 5, 3\)",
        ),
        (lambda: kernels.pearson(np.ones((2, 3)), np.ones((2, 4))), r"Maps of shape .* do not fit"),
        (lambda: kernels.spearman(np.ones(3), np.ones(3)), r"Maps of shape .* do not fit"),
        (
            lambda: kernels.top_sign_agreement(np.ones((2, 3)), np.ones((2, 3)), count=4),
            "the 4 strongest of 3 windows",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_refused(call, message):
    """Before a backend is chosen."""
    with pytest.raises(ValueError, match=message):
        call()


# in fresh interpreters

ABSENT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("numba", "llvmlite"):
            raise ModuleNotFoundError(f"blocked: {name}", name=name)

if sys.argv[1] == "absent":
    sys.meta_path.insert(0, Absent())
import numpy as np
import edgedistill_kernels as kernels

large = np.ones(1 << 20)
assert "numba" not in sys.modules
found = [kernels.BACKENDS]
kernels.normalize(large)
try:
    kernels.normalize(large, backend="cpu")
except RuntimeError as error:
    found.append(str(error))
import json
print(json.dumps(found))
"""


@pytest.mark.parametrize("numba", ["absent", "there"])
def test_numba_is_imported_only_when_it_is_asked_for(numba):
    """Importing the package never does; without Numba everything runs in the reference."""
    ran = subprocess.run(
        [sys.executable, "-c", ABSENT, numba], capture_output=True, text=True, check=False
    )

    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    if numba == "absent":
        assert found[0] == ["reference"]
        assert "Numba does not import (blocked: numba). `pip install numba`" in found[1]
    else:
        assert found[0][:2] == ["reference", "cpu"]
        assert len(found) == 1


UNWRITABLE = """
import numba.core.caching as caching
caching.CacheImpl._locator_classes = []  # as where no folder can be written
import numpy as np
import edgedistill_kernels as kernels
print(kernels.normalize(np.array([1.0, 3.0]), backend="cpu", epsilon=0.0))
"""


def test_runs_where_no_folder_can_keep_compiled_code():
    """A read-only installation without a home: it compiles anew each time."""
    ran = subprocess.run(
        [sys.executable, "-c", UNWRITABLE], capture_output=True, text=True, check=False
    )

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "[0.5 1.5]\n"


def _once_more(chosen: str, **environment: str) -> None:
    """Run some of this file in a process of its own."""
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-x", "-k", chosen),
            *("-p", "no:cacheprovider", str(Path(__file__))),
        ],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout
    assert "passed" in ran.stdout


@pytest.mark.skipif(SIMULATED, reason="this is the run inside the simulator")
def test_the_cuda_backend_agrees_in_the_simulator():
    """This file once more, with Numba's simulated GPU: a thread there is a thread of Python."""
    _once_more("cuda and not simulator and not float32", NUMBA_ENABLE_CUDASIM="1")


@pytest.mark.skipif(SIMULATED, reason="its threads are Python's")
def test_two_threads_agree_with_the_reference():
    """The sizes that are worth them once more; all other tests take one."""
    _once_more("cpu and 300", NUMBA_NUM_THREADS="2")
