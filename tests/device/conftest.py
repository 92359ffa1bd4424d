"""Real series, tiny real ONNX models, and bundles made of them."""

from __future__ import annotations

import gc
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import numpy as np
import onnx
import pytest
from aeon.datasets import load_italy_power_demand
from onnx import TensorProto, helper, numpy_helper

from edgedistill.bundle import reader as bundle
from edgedistill.bundle import writer as packing
from edgedistill.bundle.golden import Golden
from edgedistill.device.predict.service import Service
from edgedistill.evaluation.contract import Contract
from edgedistill.io import files
from edgedistill.preprocessing.transforms import fit
from edgedistill.runtimes.onnxruntime import OrtRuntime
from edgedistill.runtimes.tensorrt import cuda_driver
from edgedistill.runtimes.tensorrt.bindings import Library, load_tensorrt
from edgedistill.saliency import occlusion
from edgedistill.saliency.perturbation import default_plan

FILTERS, WIDTH = 8, 5
sys.path.insert(0, str(Path(__file__).parents[1] / "robustness"))  # for the broker in `faults`


def _sibling(name: str) -> ModuleType:
    """Import a module of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fakes = _sibling("fake_gpu")


@dataclass(frozen=True)
class Weights:
    """A convolution, ReLU, the mean over time, a linear head."""

    convolution: np.ndarray  # (F, C, w)
    head: np.ndarray  # (K, F)
    bias: np.ndarray  # (K,)

    def noisy(self, amount: float, rng: np.random.Generator) -> Weights:
        """Return weights with relative noise."""
        return Weights(
            *(
                (array * (1 + amount * rng.normal(size=array.shape))).astype(np.float32)
                for array in (self.convolution, self.head, self.bias)
            )
        )

    def features(self, x: np.ndarray) -> np.ndarray:
        """Return what the head sees, (N, F): NumPy only, to fit the head by least squares."""
        padded = np.pad(x, ((0, 0), (0, 0), (WIDTH // 2, WIDTH // 2)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, WIDTH, axis=2)
        return np.maximum(np.einsum("nctw,fcw->nft", windows, self.convolution), 0).mean(axis=2)


def write_onnx(path: Path, weights: Weights, *, batch: str | int = "N") -> Path:
    """Write the network as ONNX, opset 20, which ONNX Runtime 1.20 already reads."""
    channels, classes = weights.convolution.shape[1], len(weights.bias)
    nodes = [
        helper.make_node("Conv", ["series", "w"], ["c"], pads=[WIDTH // 2, WIDTH // 2]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "h", "b"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("series", TensorProto.FLOAT, [batch, channels, 24])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, classes])],
        [
            numpy_helper.from_array(array, name)
            for name, array in zip(
                "whb", (weights.convolution, weights.head, weights.bias), strict=True
            )
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path)
    return path


@dataclass(frozen=True)
class World:
    """Everything a bundle is made of."""

    folder: Path
    series: np.ndarray
    golden: Golden
    student: Weights
    kwargs: dict

    def write(
        self,
        path: Path,
        models: dict[str, Path] | None = None,
        *,
        runtime: str = "onnxruntime",
        **changes: object,
    ) -> Path:
        """Write a bundle; models by precision."""
        models = models or {"fp32": self.folder / "student.onnx"}
        entries = [
            bundle.Model(
                name=f"student-{precision}",
                path=file,
                runtime=runtime,
                precision=precision,
                parameters=58,
            )
            for precision, file in models.items()
        ]
        chosen = {"models": entries, "chosen": entries[0].name}
        packing.write(path, packing.BundleContents(**{**self.kwargs, **chosen, **changes}))
        return path


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A teacher fitted on ItalyPowerDemand, and a student very much like it."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("world")
    train, train_labels = load_italy_power_demand(split="train")
    test, test_labels = load_italy_power_demand(split="test")
    preprocessing = fit(list(train), length=None, sizing="resample", normalization="series")
    x, series = preprocessing.apply(list(train)), preprocessing.apply(list(test[:48]))
    labels = test_labels[:48].astype(np.int64) - 1
    teacher = _fitted(x, train_labels.astype(int) - 1, rng)
    student = teacher.noisy(0.01, rng)
    plan = default_plan(series.shape[2])
    says = OrtRuntime(write_onnx(folder / "teacher.onnx", teacher)).logits
    copies = OrtRuntime(write_onnx(folder / "student.onnx", student)).logits
    taught = occlusion.explain(says, series, plan)
    targets = taught.logits.argmax(axis=1)
    golden = Golden(
        series=series,
        labels=labels,
        teacher=taught,
        student=occlusion.explain(copies, series, plan, targets=targets),
    )
    kwargs = {
        "name": "ItalyPowerDemand",
        "created": "2026-01-02T03:04:05+00:00",
        "class_names": ("winter", "summer"),
        "preprocessing": preprocessing,
        "plan": plan,
        "contract": Contract(),
        "golden": golden,
        "provenance": bundle.Provenance(
            recipe={"seed": 0}, versions={"numpy": np.__version__}, seeds={"teacher": 0}, data="0"
        ),
    }
    return World(folder, series, golden, student, kwargs)


class ThreadedService(Service):
    """A service that leaves signals alone, because only the main thread can catch them."""

    @contextmanager
    def signals(self, then: Callable[[], object] | None = None) -> Iterator[None]:
        """Note whom to wake, for `end`."""
        self._then = then
        yield

    def end(self) -> None:
        """Do what a signal would."""
        self.stop()
        if self._then is not None:
            with suppress(RuntimeError):  # its loop has ended already
                self._then()


@pytest.fixture
def threaded_service(tmp_path: Path) -> ThreadedService:
    """A service for a thread."""
    return ThreadedService(tmp_path)


@pytest.fixture(scope="session")
def italy(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound bundle as a zip; never changed by a test."""
    return world.write(tmp_path_factory.mktemp("bundle") / "italy.zip")


@pytest.fixture(scope="session")
def sysfs() -> ModuleType:
    """The sensor files of three kinds of board."""
    return _sibling("sysfs")


@pytest.fixture(name="write_onnx")
def _write_onnx() -> Callable[..., Path]:
    """Write the tiny network with other weights."""
    return write_onnx


@pytest.fixture
def replace_file() -> Callable[[Path, str, bytes], None]:
    """Change a file of a folder bundle and make its manifest fit: a forger's way."""

    def replace(root: Path, name: str, content: bytes) -> None:
        (root / name).write_bytes(content)
        facts = files.read_json(root / "manifest.json")
        facts["files"][name] = {
            "sha256": files.sha256(root / name),
            "size_bytes": len(content),
        }
        for model in facts["models"]:
            model["size_bytes"] = facts["files"][model["file"]]["size_bytes"]
        (root / "manifest.json").write_text(json.dumps(facts))

    return replace


@pytest.fixture
def swap_model(replace_file: Callable[[Path, str, bytes], None]) -> Callable[[Path, Path], None]:
    """Put another file in the place of a folder bundle's only model."""

    def swap(root: Path, model: Path) -> None:
        (entry,) = files.read_json(root / "manifest.json")["models"]
        replace_file(root, entry["file"], model.read_bytes())

    return swap


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system without a free byte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", disk], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a tiny file system is not permitted here")
    try:
        with pytest.raises(OSError, match="No space"), (disk / "filler").open("wb") as filler:
            filler.write(bytes(1 << 20))
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


def _fitted(x: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Weights:
    start = Weights(rng.normal(size=(FILTERS, 1, WIDTH)), np.zeros((2, FILTERS)), np.zeros(2))
    features = start.features(x)
    design = np.concatenate([features, np.ones((len(x), 1))], axis=1)
    aims = np.where(labels[:, None] == np.arange(2), 4.0, -4.0)
    fitted = np.linalg.lstsq(design, aims, rcond=None)[0].T
    arrays = start.convolution, fitted[:, :-1], fitted[:, -1]
    return Weights(*(np.ascontiguousarray(array, dtype=np.float32) for array in arrays))


@pytest.fixture
def rtx(unavailable: Callable[[str], NoReturn]) -> Library:
    """TensorRT-RTX, whose parser and builder run without a GPU."""
    load_tensorrt.cache_clear()  # of what another test put in its place
    if not importlib.util.find_spec("tensorrt_rtx"):
        unavailable("tensorrt-rtx is not installed: TensorRT's parser and builder are not run")
    library = load_tensorrt()
    if not library.is_rtx:
        pytest.skip("TensorRT itself is installed, and builds for the GPU that is here only")
    return library


@pytest.fixture(scope="session")
def libcuda(tmp_path_factory: pytest.TempPathFactory, unavailable: Callable[[str], NoReturn]):
    """The stand-in for the driver's library."""
    if shutil.which("cc") is None:
        unavailable("no C compiler: the stand-in of CUDA's driver cannot be made")
    return fakes.compile_libcuda(tmp_path_factory.mktemp("libcuda"))


@pytest.fixture
def fake_cuda(libcuda: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Install the driver of a GPU that is not here."""
    monkeypatch.setattr(cuda_driver, "LIBRARY", str(libcuda))
    cuda_driver.load_driver.cache_clear()
    cuda_driver.primary_context.cache_clear()
    yield fakes.FakeCuda(libcuda)
    gc.collect()  # what holds its memory must let go while it is there
    cuda_driver.load_driver.cache_clear()
    cuda_driver.primary_context.cache_clear()


@pytest.fixture
def fake_tensorrt(
    fake_cuda: object, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., object]]:
    """Install a runtime of TensorRT whose only engine answers with a NumPy function."""

    def install(answer: Callable | None, **facts: object) -> object:
        engine = None if answer is None else fakes.FakeEngine(fake_cuda, answer, **facts)
        monkeypatch.setitem(sys.modules, "tensorrt", fakes.module(engine))
        load_tensorrt.cache_clear()
        return engine

    yield install
    load_tensorrt.cache_clear()


@pytest.fixture
def kills(tmp_path: Path) -> Callable[..., list[str]]:
    """Kill a command at each of its steps on copies of a root; return what the steps were."""

    def run(pristine: Path, command: list[str], *, code: int = 0) -> list[str]:
        script = Path(__file__).with_name("kills.py")
        (tmp_path / "kills").mkdir()
        ran = subprocess.run(
            [sys.executable, script, pristine, tmp_path / "kills", "1000", *command],
            capture_output=True,
            text=True,
            check=True,
        )
        *steps, end = ran.stdout.splitlines()
        assert end == f"ended {code}", ran.stdout[-2000:] + ran.stderr
        return steps

    return run
