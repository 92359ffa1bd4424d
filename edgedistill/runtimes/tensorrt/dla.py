"""A Jetson's deep learning accelerator (DLA): what it takes, known before an engine is built.

The limits are those of the chapter "Working with DLA" of NVIDIA's TensorRT documentation. No DLA
has run any of this: whether it takes strongly typed networks, as TensorRT 10.3 would have to, is
not known either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from edgedistill.errors import MachineError, ModelError

if TYPE_CHECKING:
    import tensorrt

_WIDEST_KERNEL: Final = 32
_WIDEST_POOL: Final = 8
_LONGEST_AXIS: Final = 8192  # other than the batch


def use_dla(
    trt: Any,
    builder: tensorrt.Builder,
    network: tensorrt.INetworkDefinition,
    config: tensorrt.IBuilderConfig,
    core: int,
) -> tuple[str, ...]:
    """Send layers to a DLA core and return those that must stay on the GPU, with reasons.

    Raises:
        MachineError: there is no such core.
        ModelError: the network is not in FP16, or none of its layers can run there.
    """
    if core >= builder.num_DLA_cores:
        raise MachineError(
            f"This machine and TensorRT {trt.__version__} offer {builder.num_DLA_cores} DLA cores, "
            f"so there is no core {core}. Build without DLA. Jetson Orin has cores, Orin Nano and "
            "Thor have none, and not every release of TensorRT uses them."
        )
    check_types(trt, network)
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    layers: list[tensorrt.ILayer] = [network.get_layer(i) for i in range(network.num_layers)]
    refused = [layer for layer in layers if not config.can_run_on_DLA(layer)]
    left = tuple(f"{layer.name}{_because(trt, layer)}" for layer in refused)
    if len(left) == len(layers):
        raise ModelError(
            f"No layer of this model can run on a DLA: {', '.join(left)}. Build without --dla."
        )
    return left


def check_types(trt: Any, network: tensorrt.INetworkDefinition) -> None:
    """Refuse a network that a DLA cannot compute in any of its layers.

    Raises:
        ModelError: it has pairs of Q and DQ, or nothing in FP16.
    """
    layers: list[tensorrt.ILayer] = [network.get_layer(i) for i in range(network.num_layers)]
    if any(layer.type in {trt.LayerType.QUANTIZE, trt.LayerType.DEQUANTIZE} for layer in layers):
        raise ModelError(
            "A DLA takes no Q/DQ pairs: INT8 runs there only if TensorRT quantizes by itself, as "
            "11 no longer does. Choose trt-fp16 with --model, or build without --dla."
        )
    outputs: list[tensorrt.ITensor] = [layer.get_output(0) for layer in layers]
    if not any(output.dtype == trt.DataType.HALF for output in outputs):
        raise ModelError(
            "A DLA computes in FP16, and no layer of this model does. Choose trt-fp16 with "
            "--model, or build without --dla."
        )


def adjust_parser(trt: Any, parser: tensorrt.OnnxParser) -> None:
    """Let the parser prefer layers that a DLA has, where the release can: from 11.4 on."""
    flag = getattr(trt.OnnxParserFlag, "ADJUST_FOR_DLA", None)
    if flag is not None:
        parser.set_flag(flag)


def _because(trt: Any, layer: tensorrt.ILayer) -> str:
    """Return the limit that keeps a layer from a DLA, in brackets; "" if none is known."""
    window, most = 1, _WIDEST_KERNEL
    if layer.type == trt.LayerType.CONVOLUTION:
        convolution: tensorrt.IConvolutionLayer = _as(trt.IConvolutionLayer, layer)
        window = max(convolution.kernel_size_nd)
    elif layer.type == trt.LayerType.POOLING:
        pooling: tensorrt.IPoolingLayer = _as(trt.IPoolingLayer, layer)
        window, most = max(pooling.window_size_nd), _WIDEST_POOL
    if window > most:
        return f" (its window of {window} is wider than {most})"
    series: tensorrt.ITensor = layer.get_input(0)
    longest = max(tuple(series.shape)[1:], default=0) if series is not None else 0
    if longest > _LONGEST_AXIS:
        return f" (an axis of {longest} is longer than {_LONGEST_AXIS})"
    return ""


def _as(kind: Any, layer: Any) -> Any:
    """Return a layer as one of its kind: a network gives layers without their own properties."""
    layer.__class__ = kind  # the binding's documented way
    return layer
