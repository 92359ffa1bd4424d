"""An 8-bit ONNX model in torch: it rounds where the ONNX model rounds, and can be trained.

Built from the very graph that the quantizer wrote, so both agree on where 8 bits begin and end.
Weights are floats that are rounded as they are used; gradients pass the rounding as if it were not
there (straight-through), and stop where a value is cut.

Source: Jacob et al. 2018, arXiv:1712.05877; Bengio et al. 2013, arXiv:1308.3432.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from edgedistill.errors import ModelError
from edgedistill.optimize.qat.operators import OPERATORS
from edgedistill.optimize.quantization.calibration import Ranges
from edgedistill.optimize.quantization.int8 import with_qdq
from edgedistill.optimize.quantization.nodes import fixed_nodes, is_static, with_node_names
from edgedistill.optimize.quantization.zero_sum_filters import weight_ranges

_WEIGHTED = ("Conv", "Gemm", "MatMul")
_LARGEST = 127  # of a signed 8-bit weight, where all are 0
_ROUNDING = 1e-3  # of a whole number, as a quotient of float32
_TINY = 1e-12  # keeps the scale of an all-zero channel above zero
_FORMS = {"auto_pad": b"NOTSET", "ceil_mode": 0}  # the only values that the operators support


@dataclass(frozen=True, slots=True)
class _Step:
    """A node as it is run."""

    operator: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Weight:
    """A trained constant and its rounding."""

    key: str  # of the parameter
    shared: tuple[int, ...] = ()  # axes that share a scale
    levels: str | None = None  # key of the levels of the largest; None: it is no 8-bit weight
    steps: str | None = None  # key of a bias's step, as it is for the weights taken over


class QatModel(nn.Module):
    """A student in 8 bits: series (N, C, T) to logits (N, K)."""

    def __init__(
        self, model: onnx.ModelProto, ranges: Ranges, keep: frozenset[str] = frozenset()
    ) -> None:
        """Copy the weights of a float model.

        Args:
            model: folded and stripped.
            ranges: ranges of its values; they stay as they are while the weights learn.
            keep: names of nodes that stay float.

        Raises:
            ModelError: the model has an LSTM, or an operator that is not supported here.
        """
        super().__init__()
        check_trainable(model)
        self._source = with_node_names(model)
        graph = with_qdq(model, ranges, keep=keep).graph
        constants = {i.name: i for i in graph.initializer}
        makers = {node.output[0]: node for node in graph.node}
        self._input, self._output = graph.input[0].name, graph.output[0].name
        self._constants: dict[str, str] = {}
        self._learned = self._register_weights(graph, makers, constants)
        self._steps = [_step(node) for node in graph.node if not _is_constant(node, constants)]
        used = {name for step in self._steps for name in step.inputs} - set(self._learned)
        for name in sorted(used & set(constants)):
            self._keep(name, numpy_helper.to_array(constants[name]))
        for name in sorted(used & {n.output[0] for n in graph.node if _is_constant(n, constants)}):
            self._keep(name, _dequantized(makers[name], constants))

    def forward(self, series: Tensor) -> Tensor:
        """Return the logits."""
        values: dict[str, Any] = {
            name: self.get_buffer(key) for name, key in self._constants.items()
        }
        values |= {name: self._rounded(weight) for name, weight in self._learned.items()}
        values[self._input] = series
        for step in self._steps:
            inputs = [values[name] for name in step.inputs]
            if step.operator == "QuantizeLinear":
                values[step.output] = _quantized(*inputs)
            elif step.operator == "DequantizeLinear":
                values[step.output] = (inputs[0] - inputs[2]) * inputs[1]
            else:
                values[step.output] = OPERATORS[step.operator](step.attributes, inputs)
        logits: Tensor = values[self._output]
        return logits

    def to_onnx(self) -> onnx.ModelProto:
        """Return the float model with the weights as they are now."""
        result = onnx.ModelProto()
        result.CopyFrom(self._source)
        for initializer in result.graph.initializer:
            key = self._keys.get(initializer.name)
            if key is not None:
                value = self.get_parameter(key).detach().cpu().numpy()
                initializer.CopyFrom(numpy_helper.from_array(value, initializer.name))
        return result

    def _register_weights(
        self,
        graph: onnx.GraphProto,
        makers: dict[str, onnx.NodeProto],
        constants: dict[str, onnx.TensorProto],
    ) -> dict[str, _Weight]:
        """Register the float weights; return them by the name under which the graph reads them."""
        floats = {i.name: numpy_helper.to_array(i) for i in self._source.graph.initializer}
        sources = {node.name: node for node in self._source.graph.node}
        fixed = fixed_nodes(self._source)
        zero_sums = weight_ranges(self._source, _LARGEST)
        self._keys: dict[str, str] = {}
        learned: dict[str, _Weight] = {}
        for node in graph.node:
            if node.op_type not in _WEIGHTED:
                continue
            for name, original in zip(node.input[1:], sources[node.name].input[1:], strict=True):
                if original not in floats:
                    continue
                key = self._keys.setdefault(original, f"learned_{len(self._keys)}")
                if not hasattr(self, key):
                    value = torch.from_numpy(floats[original].copy())
                    learns = node.name not in fixed and original not in zero_sums
                    self.register_parameter(key, nn.Parameter(value, requires_grad=learns))
                learned[name] = self._weight(key, makers.get(name), floats[original], constants)
        return learned

    def _weight(
        self,
        key: str,
        maker: onnx.NodeProto | None,
        value: np.ndarray[Any, Any],
        constants: dict[str, onnx.TensorProto],
    ) -> _Weight:
        if maker is None:  # float
            return _Weight(key)
        if value.ndim > 1:
            own = numpy_helper.to_array(constants[maker.input[1]]).size > 1
            axis = int(_attributes(maker).get("axis", 0)) % value.ndim if own else None
            shared = tuple(a for a in range(value.ndim) if a != axis)
            scale = numpy_helper.to_array(constants[maker.input[1]])
            largest = np.abs(value).max(axis=shared, keepdims=True)
            return _Weight(key, shared=shared, levels=self._levels(maker.input[1], largest, scale))
        steps = self._keep(maker.input[1], numpy_helper.to_array(constants[maker.input[1]]))
        return _Weight(key, steps=steps)

    def _levels(self, name: str, largest: np.ndarray[Any, Any], scale: np.ndarray[Any, Any]) -> str:
        """Keep the level that the largest weights are rounded to.

        Whole numbers, but where a bias that is large beside its weights made their scale coarser.
        """
        exact = largest / np.maximum(scale.reshape(largest.shape), _TINY)
        near = np.abs(exact - np.round(exact)) < _ROUNDING
        levels = np.where(near & (exact > 1), np.round(exact), exact)
        return self._keep(f"{name} levels", np.where(largest > 0, levels, _LARGEST))

    def _keep(self, name: str, value: np.ndarray[Any, Any]) -> str:
        if name in self._constants:
            return self._constants[name]
        key = self._constants[name] = f"constant_{len(self._constants)}"
        tensor = torch.from_numpy(np.array(value))
        whole = tensor.dtype in (torch.int8, torch.uint8, torch.int32)  # zero points
        self.register_buffer(key, tensor.float() if whole else tensor, persistent=False)
        return key

    def _rounded(self, weight: _Weight) -> Tensor:
        value = self.get_parameter(weight.key)
        if weight.steps is not None:
            steps = self.get_buffer(weight.steps)
            return _straight_through(value / steps) * steps
        if weight.levels is None:
            return value
        largest = value.detach().abs().amax(dim=weight.shared, keepdim=True)
        scale = largest.clamp(min=_TINY) / self.get_buffer(weight.levels)
        return _straight_through(value / scale) * scale


def check_trainable(model: onnx.ModelProto) -> None:
    """Refuse a folded model that cannot be trained in 8 bits.

    Raises:
        ModelError: it has an LSTM, or an operator that is not supported here.
    """
    if not is_static(model):
        raise ModelError(
            "An LSTM measures the ranges of its activations as it runs, so there are none to train "
            "it for. Leave optimize.recover out."
        )
    for node in with_node_names(model).graph.node:
        attributes = _attributes(node)
        unsupported = [n for n, usual in _FORMS.items() if attributes.get(n, usual) != usual]
        if node.op_type not in OPERATORS or unsupported or len(node.output) > 1:
            raise ModelError(
                f"{node.name} is a {node.op_type}{' with ' if unsupported else ''}"
                f"{', '.join(unsupported)}, which cannot be trained in 8 bits here. Known are "
                f"{', '.join(sorted(OPERATORS))}. Leave optimize.recover out."
            )


def _quantized(value: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """Return activations as whole numbers from 0 to 255; what is cut has no gradient."""
    return torch.clamp(_straight_through(value / scale) + zero, 0, 255)


def _straight_through(value: Tensor) -> Tensor:
    """Return rounded values whose gradient is that of the values."""
    return value + (torch.round(value) - value).detach()


def _step(node: onnx.NodeProto) -> _Step:
    inputs = tuple(name for name in node.input if name)
    return _Step(node.op_type, inputs, node.output[0], _attributes(node))


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _is_constant(node: onnx.NodeProto, constants: dict[str, Any]) -> bool:
    return node.op_type == "DequantizeLinear" and node.input[0] in constants


def _dequantized(
    node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]
) -> np.ndarray[Any, Any]:
    value, scale, zero = (numpy_helper.to_array(constants[name]) for name in node.input)
    shape = [1] * value.ndim
    if scale.ndim:
        shape[int(_attributes(node).get("axis", 1)) % value.ndim] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    result: np.ndarray[Any, Any] = ((value.astype(np.float32) - zero) * scale).astype(np.float32)
    return result
