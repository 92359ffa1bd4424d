"""What our code calls on TensorRT and CUDA exists in the real bindings and header, of both majors.

Without a GPU the code that runs an engine cannot run. The vendor's Python modules can: their
wheels need three libraries of which only nine functions must be there for the import, and
empty ones are compiled here. `binding_check.py` then holds every class, enum member, property
and call of our sources against the modules. CUDA's driver is called through ctypes, which checks
nothing; the vendor's header declares what it takes.

The wheels come from the package index once and stay in the cache folder.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from packaging.utils import parse_wheel_filename

import edgedistill
from edgedistill.runtimes.tensorrt.cuda_driver import PROTOTYPES

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("binding_check.py")
PACKAGE = Path(edgedistill.__path__[0])
TENSORRT = PACKAGE / "runtimes" / "tensorrt"
SOURCES = (*sorted(TENSORRT.glob("*.py")), *sorted((PACKAGE / "device").glob("*.py")))
PYTHON = sys.executable
BOARD_PYTHON = os.environ.get("EDGEDISTILL_PY310", "") or PYTHON  # the one that JetPack 6 has
TRT = "tensorrt_bindings"

LIBRARIES = {
    "libnvinfer": (
        "createInferBuilder_INTERNAL",
        "createInferRefitter_INTERNAL",
        "createInferRuntime_INTERNAL",
        "getBuilderPluginRegistry",
        "getPluginRegistry",
    ),
    "libnvinfer_plugin": ("initLibNvInferPlugins",),
    "libnvonnxparser": (
        "createNvOnnxParserRefitter_INTERNAL",
        "createNvOnnxParser_INTERNAL",
        "getNvOnnxParserVersion",
    ),
}


@dataclass(frozen=True)
class Bindings:
    """A vendor's module in a folder, and what it needs to be imported."""

    python: str
    module: str
    path: Path
    libraries: Path

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "LD_LIBRARY_PATH": str(self.libraries)}
        environment["PYTHONPATH"] = str(self.path)
        return subprocess.run(
            [self.python, *arguments], env=environment, capture_output=True, text=True
        )

    def check(self, *sources: Path) -> dict:
        ran = self.run(SCRIPT, self.module, *sources)
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "edgedistill" / "wheels"


def _fetch(python: str, requirement: str, folder: Path) -> Path | None:
    """Return the newest wheel of a requirement, from the index or else from earlier runs."""
    wanted = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--timeout", "10"]
    subprocess.run(
        [python, "-m", "pip", "download", *wanted, "--retries", "1", "-d", folder, requirement],
        capture_output=True,
    )
    found = folder.glob("*.whl")
    return max(found, key=lambda wheel: parse_wheel_filename(wheel.name)[1], default=None)


def _compile(major: str, folder: Path, compiler: str) -> None:
    for library, functions in LIBRARIES.items():
        source = "".join(f"void *{name}(void) {{ return 0; }}\n" for name in functions)
        soname = f"{library}.so.{major}"
        command = [compiler, "-shared", "-fPIC", f"-Wl,-soname,{soname}", "-o", folder / soname]
        subprocess.run([*command, "-x", "c", "-"], input=source, text=True, check=True)


def _python_tag(python: str) -> str:
    code = "import sys; print('{}.{}'.format(*sys.version_info))"
    return subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture(scope="module")
def bindings(tmp_path_factory, unavailable):
    """Unpack a module of the wheels, with stand-ins for the libraries that it links to."""

    @cache
    def unpack(python: str, module: str, major: str, *requirements: str) -> Bindings:
        compiler = shutil.which("cc")
        if compiler is None:
            unavailable("no C compiler: the stand-ins of TensorRT's libraries cannot be made")
        path, libraries = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("libraries")
        for requirement in requirements:
            folder = _cache() / f"{_python_tag(python)} {requirement}".replace("*", "x")
            wheel = _fetch(python, requirement, folder)
            if wheel is None:
                unavailable(f"no wheel of {requirement}, neither from the package index nor cached")
            shutil.unpack_archive(wheel, path, "zip")
        _compile(major, libraries, compiler)
        return Bindings(python, module, path, libraries)

    return unpack


@pytest.fixture(scope="module")
def tensorrt10(bindings):
    """TensorRT 10.3, of JetPack 6.1 and 6.2."""
    return bindings(BOARD_PYTHON, TRT, "10", "tensorrt-cu12-bindings==10.3.*")


@pytest.fixture(scope="module")
def tensorrt11(bindings):
    """The newest TensorRT 11."""
    return bindings(PYTHON, TRT, "11", "tensorrt-cu13-bindings>=11,<12")


@pytest.fixture(params=["10", "11"])
def either(request):
    """Both majors, one after the other."""
    return request.getfixturevalue(f"tensorrt{request.param}")


@pytest.fixture(
    scope="module", params=["nvidia-cuda-runtime-cu12==12.6.*", "nvidia-cuda-runtime==13.*"]
)
def cuda_h(request, tmp_path_factory, unavailable):
    """The folder of cuda.h: of CUDA 12.6, as JetPack 6 has it, and of the newest CUDA 13."""
    if shutil.which("cc") is None:
        unavailable("no C compiler: cuda.h cannot be read")
    wheel = _fetch(PYTHON, request.param, _cache() / f"any {request.param}".replace("*", "x"))
    if wheel is None:
        unavailable(f"no wheel of {request.param}, neither from the package index nor cached")
    folder = tmp_path_factory.mktemp("cuda")
    shutil.unpack_archive(wheel, folder, "zip")
    (header,) = folder.rglob("cuda.h")
    return header.parent


def _planted(tmp_path: Path, name: str, old: str, new: str) -> Path:
    """Return a copy of one of our sources with a fault."""
    source = TENSORRT / f"{name}.py"
    text = source.read_text(encoding="utf-8")
    assert old in text
    copy = tmp_path / source.name
    copy.write_text(text.replace(old, new), encoding="utf-8")
    return copy


def test_everything_that_we_use_is_in_both_majors(either):
    """No class, enum member, property or call is missing, and running an engine is covered."""
    found = either.check(*SOURCES)

    assert found["problems"] == []
    assert set(found["checked"]) >= {
        "Builder.build_serialized_network",
        "EngineInspector.get_engine_information",
        "IExecutionContext.execute_async_v3",
        "IExecutionContext.profiler",
        "IExecutionContext.set_tensor_address",
        "ILogger.log",
        "ITensor.dtype",
        "NetworkDefinitionCreationFlag.STRONGLY_TYPED",
        "ParserError.node_name",
        "Runtime.deserialize_cuda_engine",
    }


def test_a_gpu_that_tensorrt_cannot_use_is_a_machine_error(either):
    """Without CUDA the library gives a null pointer, as the empty ones do here."""
    code = (
        f"import sys; sys.path.append({str(PACKAGE.parent)!r})\n"
        "import tensorrt_bindings\n"
        "sys.modules['tensorrt'] = tensorrt_bindings\n"
        "from edgedistill.errors import MachineError\n"
        "from edgedistill.runtimes.tensorrt import bindings\n"
        "for make in (bindings.make_runtime, bindings.make_builder):\n"
        "    try:\n        make(bindings.load_tensorrt())\n"
        "    except MachineError as error:\n        print(error)\n"
    )

    ran = either.run("-c", code)

    assert ran.stdout.count("cannot use this GPU: pybind11::init()") == 2, ran.stderr


def test_majors_are_what_they_should_be(tensorrt10, tensorrt11):
    """The check would show little if both were the same."""
    assert tensorrt10.check()["version"].startswith("10.3.")
    assert tensorrt11.check()["version"].startswith("11.")


def test_no_other_module_uses_the_vendors() -> None:
    """Whoever names TensorRT or CUDA's runtime lies among what is checked."""
    users = {
        path
        for path in PACKAGE.rglob("*.py")
        if re.search(r"^ *(import|from) (tensorrt|cuda)\b", path.read_text(), re.MULTILINE)
    }

    assert users
    assert users <= set(SOURCES)


def test_our_prototypes_are_those_of_the_header(cuda_h):
    """Every function that we call has the arguments that we give it: pointers and widths."""
    source = "#include <cuda.h>\n"
    done = subprocess.run(
        ["cc", "-E", "-P", "-I", cuda_h, "-x", "c", "-"],
        input=source,
        capture_output=True,
        text=True,
        check=True,
    )
    declared = dict(re.findall(r"CUresult\s+(cu\w+)\(([^()]*)\);", " ".join(done.stdout.split())))
    kinds = {
        **dict.fromkeys(("int", "CUdevice", "CUdevice_attribute", "CUresult"), ctypes.c_int),
        "unsigned int": ctypes.c_uint,
        "size_t": ctypes.c_size_t,
        "CUdeviceptr": ctypes.c_uint64,
        "CUcontext": ctypes.c_void_p,
        "CUstream": ctypes.c_void_p,
        "void *": ctypes.c_void_p,
        "char *": ctypes.c_char_p,
    }

    def kind(parameter):
        words = re.sub(r"\bconst\b|\w+$", "", parameter).strip()
        if words in kinds or not words.endswith("*"):
            return kinds[words]
        return ctypes.POINTER(kind(f"{words[:-1].strip()} x"))

    for name, arguments in PROTOTYPES.items():
        assert tuple(kind(text) for text in declared[name].split(",")) == arguments, name


def test_the_stand_in_is_declared_in_the_header(cuda_h):
    """The library of the tests takes what the vendor's takes, or the compiler refuses it."""
    source = Path(__file__).parents[2] / "device" / "libcuda.c"
    command = ["cc", "-fsyntax-only", "-DWITH_CUDA_H", "-I", cuda_h]
    planted = source.read_text("utf-8").replace("size_t *bytes, CUdevice", "int *bytes, CUdevice")

    subprocess.run([*command, source], check=True)
    refused = subprocess.run([*command, "-x", "c", "-"], input=planted, text=True)

    assert refused.returncode


def test_what_only_rtx_has_is_there(unavailable):
    """Functions for TensorRT-RTX alone are held against it."""
    ran = Bindings(PYTHON, "tensorrt_rtx", Path(), Path()).run(SCRIPT, "tensorrt_rtx", *SOURCES)
    if "No module named 'tensorrt_rtx'" in ran.stderr:
        unavailable("tensorrt-rtx is not installed")

    found = json.loads(ran.stdout)

    assert found["problems"] == []
    assert "IBuilderConfig.set_compute_capability" in found["checked"]


def test_a_flag_of_tensorrt_10_is_found_missing_in_11(tensorrt10, tensorrt11, tmp_path):
    """BuilderFlag.FP16 is the mistake that this check exists for."""
    source = _planted(tmp_path, "builder", "BuilderFlag.REFIT", "BuilderFlag.FP16")

    assert tensorrt10.check(source)["problems"] == []
    (problem,) = tensorrt11.check(source)["problems"]
    assert "tensorrt_bindings has no BuilderFlag.FP16" in problem


@pytest.mark.parametrize(
    ("module", "old", "new", "problem"),
    [
        ("runtime", "execute_async_v3", "execute_async_v9", "no IExecutionContext.execute_async"),
        ("runtime", "execute_async_v3(self._memory.stream)", "execute_async_v3()", "takes ("),
        ("runtime", "get_tensor_mode(name)", "get_tensor_mode(name, 1)", "takes (name)"),
        ("runtime", "TensorIOMode.INPUT", "TensorIOMode.IN", "no TensorIOMode.IN"),
        ("runtime", "context.profiler =", "context.profile_r =", "no IExecutionContext.profile_r"),
        ("builder", "config: tensorrt.IBuilderConfig", "config: Any", "type is not known"),
        ("runtime", "tensorrt.ICudaEngine", "tensorrt.ICudaMotor", "no ICudaMotor"),
        ("dla", "builder.num_DLA_cores", "builder.num_dla", "no Builder.num_dla"),
        ("dla", "config.DLA_core =", "config.flags, network.num_layers =", "be set"),
        ("builder", "profile.set_shape", "profile.shape", "no IOptimizationProfile.shape"),
        ("builder", "error.desc()", "error.desc(1)", "ParserError.desc takes"),
        (
            "bindings",
            "def log(self, severity",
            "def log(self, when, severity",
            "overridden",
        ),
        ("layers", "def report_layer_time", "def report_time", "no IProfiler.report_time"),
    ],
)
def test_planted_faults_are_found_in_both_majors(either, tmp_path, module, old, new, problem):
    """Wrong names, arguments, properties and overrides; and a type that got lost."""
    problems = either.check(_planted(tmp_path, module, old, new))["problems"]

    assert any(problem in text for text in problems), problems


def test_what_is_missing_is_skipped_or_fails(unavailable, monkeypatch):
    """A test that lacks something is skipped with a reason; in CI it fails."""
    monkeypatch.delenv("EDGEDISTILL_COMPLETE", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no wheel"):
        unavailable("no wheel")

    monkeypatch.setenv("EDGEDISTILL_COMPLETE", "1")
    with pytest.raises(pytest.fail.Exception, match=r"no wheel \(EDGEDISTILL_COMPLETE is set\)"):
        unavailable("no wheel")


def test_without_an_index_earlier_wheels_do(tmp_path, monkeypatch):
    """The newest that is there is taken; of none there is nothing to take."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert _fetch(PYTHON, "edgedistill-nothing", tmp_path) is None

    for version in ("11.4.0.106", "11.10.0.1", "11.9.0.1"):
        (tmp_path / f"edgedistill_nothing-{version}-py3-none-any.whl").touch()

    found = _fetch(PYTHON, "edgedistill-nothing", tmp_path)
    assert found.name.startswith("edgedistill_nothing-11.10.0.1")
