"""What the builder is asked, and what it refuses: TensorRT-RTX's real parser and builder."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedistill.errors import MachineError, ModelError, UsageError
from edgedistill.runtimes.tensorrt.builder import BuildOptions, _read_timings, serialize

CAPABILITY = "8.6"


def _serialize(rtx, model, tmp_path, **options):
    timing = tmp_path / "timing.cache"
    options = BuildOptions(**options)
    return serialize(rtx, model, options, timing=timing, compute_capability=CAPABILITY)


@pytest.mark.parametrize(
    "options", [{}, {"level": 0, "workspace_mib": 64, "max_batch": 7}], ids=str
)
def test_builds_a_plan(rtx, world, tmp_path, options):
    """A float32 network becomes an engine, without a GPU; TensorRT-RTX leaves no timings."""
    built = _serialize(rtx, world.folder / "student.onnx", tmp_path, **options)

    assert len(built.plan) > 1000
    assert built.gpu_fallback == ()
    assert list(tmp_path.iterdir()) == []


def test_max_batch_reaches_the_plan(rtx, world, tmp_path):
    """Another profile gives another plan; so does nothing else here."""
    model = world.folder / "student.onnx"

    plans = [_serialize(rtx, model, tmp_path, max_batch=size).plan for size in (1, 64, 64)]

    assert len({len(plan) for plan in plans[1:]}) == 1
    assert plans[0] != plans[1]


def test_fixed_batch_needs_no_profile(rtx, world, tmp_path, write_onnx):
    """A file made for one batch builds as it is."""
    model = write_onnx(tmp_path / "fixed.onnx", world.student, batch=3)

    assert _serialize(rtx, model, tmp_path).plan


def _model(path, nodes, *, takes=(TensorProto.FLOAT, ["N", 1, 24]), gives=None, weights=()):
    series = helper.make_tensor_value_info("series", *takes)
    logits = helper.make_tensor_value_info("logits", *(gives or takes))
    graph = helper.make_graph(nodes, "g", [series], [logits], list(weights))
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
    return path


def test_parser_names_the_node(rtx, tmp_path):
    """Each message comes with the ONNX node that it is about."""
    nodes = [
        helper.make_node("Relu", ["series"], ["r"], name="first"),
        helper.make_node("Unique", ["r"], ["logits"], name="odd one"),
    ]
    model = _model(tmp_path / "odd.onnx", nodes)

    with pytest.raises(ModelError, match=r"refuses odd.onnx: .*node 'odd one' \(Unique\): "):
        _serialize(rtx, model, tmp_path)


def test_parser_numbers_a_node_without_a_name(rtx, tmp_path):
    """ONNX does not demand names."""
    nodes = [helper.make_node("Unique", ["series"], ["logits"])]
    model = _model(tmp_path / "odd.onnx", nodes)

    with pytest.raises(ModelError, match=r"node number 0 \(Unique\): [^\n]+$"):
        _serialize(rtx, model, tmp_path)


def test_int8_of_onnx_runtime_is_refused(rtx, tmp_path):
    """Zero points that are not zero, ONNX Runtime's custom, are none of TensorRT's."""
    scale = numpy_helper.from_array(np.float32(0.1), "scale")
    zero = numpy_helper.from_array(np.uint8(113), "zero")
    nodes = [
        helper.make_node("QuantizeLinear", ["series", "scale", "zero"], ["q"], name="quantize"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["logits"], name="back"),
    ]
    model = _model(tmp_path / "int8.onnx", nodes, weights=[scale, zero])

    with pytest.raises(ModelError, match=r"node 'quantize'.*INT8 for ONNX Runtime is none"):
        _serialize(rtx, model, tmp_path)


@pytest.mark.parametrize(
    ("takes", "gives"),
    [
        ((TensorProto.FLOAT, ["N", 1, "T"]), (TensorProto.FLOAT, ["N", 1, "T"])),
        ((TensorProto.FLOAT, ["N", 24]), (TensorProto.FLOAT, ["N", 24])),
        ((TensorProto.FLOAT16, ["N", 1, 24]), (TensorProto.FLOAT16, ["N", 1, 24])),
        ((TensorProto.FLOAT, ["N", 1, 24]), (TensorProto.FLOAT, ["N", 1, 24])),
    ],
    ids=["free length", "no channels", "float16", "no logits"],
)
def test_other_interfaces_are_refused(rtx, tmp_path, takes, gives):
    """One float32 (N, C, T) to one float32 (N, K), nothing else."""
    nodes = [helper.make_node("Relu", ["series"], ["logits"])]
    model = _model(tmp_path / "other.onnx", nodes, takes=takes, gives=gives)

    with pytest.raises(ModelError, match=r"other.onnx goes from .* Export the model with edge"):
        _serialize(rtx, model, tmp_path)


def test_a_file_that_is_no_model_is_refused(rtx, tmp_path):
    """Not even a graph: the parser's words are passed on."""
    model = tmp_path / "text.onnx"
    model.write_text("no model")

    with pytest.raises(ModelError, match=r"tensorrt_rtx .* refuses text.onnx"):
        _serialize(rtx, model, tmp_path)


def test_a_failing_builder_is_a_model_error(rtx, world, tmp_path):
    """TensorRT-RTX has no version-compatible engines: its reason is in the message."""
    with pytest.raises(ModelError, match=r"cannot build student.onnx: .*libnvinfer_lean"):
        _serialize(rtx, world.folder / "student.onnx", tmp_path, version_compatible=True)


def test_unknown_compute_capability_is_a_usage_error(rtx, world, tmp_path):
    """The message has those that there are."""
    model, timing = world.folder / "student.onnx", tmp_path / "timing.cache"

    with pytest.raises(UsageError, match=r"capability '3.5'; it knows .*SM86"):
        serialize(rtx, model, BuildOptions(), timing=timing, compute_capability="3.5")


def test_absent_dla_is_a_machine_error(rtx, world, tmp_path):
    """A core that the machine lacks is not replaced by the GPU."""
    with pytest.raises(MachineError, match="offer 0 DLA cores, so there is no core 0"):
        _serialize(rtx, world.folder / "student.onnx", tmp_path, dla_core=0)


def test_dla_takes_one_series_a_call():
    """A DLA wants static shapes: one batch, the smallest."""
    assert BuildOptions(max_batch=16).batches == (1, 1, 16)
    assert BuildOptions(max_batch=16, dla_core=0).batches == (1, 1, 1)


@pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX:DeprecationWarning")
def test_timings_are_kept_for_the_next_build(rtx, world, tmp_path):
    """TensorRT's timings are written and read; TensorRT-RTX has the calls, and nothing to time."""
    vendor, model = dataclasses.replace(rtx, name="tensorrt"), world.folder / "student.onnx"
    timing = tmp_path / "timing.cache"

    _serialize(vendor, model, tmp_path)
    first = timing.read_bytes()
    _serialize(vendor, model, tmp_path)

    assert first
    assert timing.read_bytes() == first


@pytest.mark.parametrize("outcome", ["taken", "of another machine", "damaged"])
def test_timings_that_do_not_fit_are_left_alone(tmp_path, outcome):
    """What TensorRT does not take is replaced by nothing; a stand-in, for want of TensorRT."""
    path, taken = tmp_path / "timing.cache", []
    path.write_bytes(b"timings")

    def create_timing_cache(blob):
        return None if blob and outcome == "damaged" else blob

    def set_timing_cache(cache, ignore_mismatch):
        assert not ignore_mismatch
        if cache and outcome == "of another machine":
            return False
        taken.append(cache)
        return True

    _read_timings(
        SimpleNamespace(create_timing_cache=create_timing_cache, set_timing_cache=set_timing_cache),
        path,
    )

    assert taken == [b"timings" if outcome == "taken" else b""]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_batch": 0}, "batch size is 0; give 1 to 4096"),
        ({"level": 6}, "optimization level is 6; give 0 to 5"),
        ({"workspace_mib": 0}, "workspace in MiB is 0"),
        ({"dla_core": -1}, "DLA core is -1"),
    ],
    ids=str,
)
def test_impossible_options_are_usage_errors(options, message):
    """Each with its bounds."""
    with pytest.raises(UsageError, match=message):
        BuildOptions(**options)
