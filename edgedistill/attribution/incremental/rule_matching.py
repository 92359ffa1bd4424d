"""The rule of each recorded operation."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from edgedistill.attribution.incremental.layers import (
    Channels,
    Conv,
    Dense,
    Flatten,
    GlobalMax,
    Join,
    LastState,
    MaxPool,
    Mean,
    Pointwise,
    Relu,
    Rule,
    Same,
    Scale,
    Shift,
    Sum,
    UnsupportedModule,
)

_TIME = 2  # axis of (N, C, T)
_ACTIVATIONS: dict[Any, Callable[[Tensor], Tensor]] = {
    functional.relu6: functional.relu6,
    functional.gelu: functional.gelu,
    functional.silu: functional.silu,
    functional.elu: functional.elu,
    functional.selu: functional.selu,
    functional.mish: functional.mish,
    functional.softplus: functional.softplus,
    functional.hardswish: functional.hardswish,
    functional.leaky_relu: functional.leaky_relu,
    torch.tanh: torch.tanh,
    torch.sigmoid: torch.sigmoid,
    functional.tanh: torch.tanh,
    functional.sigmoid: torch.sigmoid,
}
_ACTIVATION_MODULES = (
    nn.ReLU6,
    nn.LeakyReLU,
    nn.GELU,
    nn.SiLU,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.Mish,
    nn.Softplus,
    nn.Hardswish,
    nn.Tanh,
    nn.Sigmoid,
)
_DIFFERENCES = (operator.sub, operator.isub, torch.sub)
_QUOTIENTS = (operator.truediv, operator.itruediv, torch.div)
LEAVES = (
    nn.Conv1d,
    nn.BatchNorm1d,
    nn.Linear,
    nn.MaxPool1d,
    nn.AvgPool1d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveMaxPool1d,
    nn.Dropout,
    nn.Dropout1d,
    nn.Identity,
    nn.Flatten,
    nn.LSTM,
    nn.GRU,
    nn.ReLU,
    *_ACTIVATION_MODULES,
)


def rule_of(graph: fx.GraphModule, node: fx.Node, values: Mapping[str, Any]) -> Rule:
    """Return the rule of a node.

    Raises:
        UnsupportedModule: there is none.
    """
    input_ = values[node.all_input_nodes[0].name]
    output = values[node.name]
    rule: Rule | None = None
    if _is_turned(node) or _is_last_output(graph, node):
        return Same()
    if node.op == "call_module":
        rule = _of_module(graph.get_submodule(str(node.target)), input_, output)
    elif node.op == "call_function":
        rule = _of_function(node, input_, output, values)
    elif node.op == "call_method":
        rule = _of_method(node, input_, output)
    if rule is None:
        what = graph.get_submodule(str(node.target)) if node.op == "call_module" else node.target
        raise UnsupportedModule(f"there is no rule for {getattr(what, '__name__', what)}")
    return rule


def _of_module(module: nn.Module, input_: Tensor, output: Tensor) -> Rule | None:
    if isinstance(module, nn.ReLU):
        return Relu()
    if isinstance(module, _ACTIVATION_MODULES):
        return Pointwise(_pure(module))
    if isinstance(module, nn.Conv1d):
        return _conv(module, output)
    if isinstance(module, nn.BatchNorm1d):
        return Scale(_norm_factor(module, input_))
    if isinstance(module, nn.Linear):
        return Dense(module.weight) if input_.ndim == 2 else None
    if isinstance(module, nn.Dropout | nn.Dropout1d):
        return None if module.training else Same()
    if isinstance(module, nn.Identity):
        return Same()
    if isinstance(module, nn.Flatten):
        return _flatten(input_) if module.start_dim == 1 else None
    if isinstance(module, nn.LSTM | nn.GRU):
        return _recurrent(module, input_)
    return _of_pool(module, input_, output)


def _is_turned(node: fx.Node) -> bool:
    """Return whether a node transposes (N, C, T) to (N, T, C) for a recurrent network."""
    if node.op != "call_method" or not all(user.op == "call_module" for user in node.users):
        return False
    axes = tuple(node.args[1:])
    return (node.target, axes) in {
        ("transpose", (1, 2)),
        ("transpose", (2, 1)),
        ("transpose", (-1, -2)),
        ("transpose", (-2, -1)),
        ("permute", (0, 2, 1)),
    }


def _is_last_output(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether a node takes the outputs of a recurrent network, or the last of them."""
    if node.target is not operator.getitem or not isinstance(node.args[0], fx.Node):
        return False
    source, index = node.args[0], node.args[1]
    if _is_recurrent(graph, source) and index == 0:
        return all(user.target is operator.getitem for user in node.users)
    origin = source.args[0] if source.target is operator.getitem else None
    last = index in [(slice(None), -1), (slice(None), -1, slice(None))]
    return isinstance(origin, fx.Node) and _is_recurrent(graph, origin) and last


def _is_recurrent(graph: fx.GraphModule, node: fx.Node) -> bool:
    if node.op != "call_module":
        return False
    return isinstance(graph.get_submodule(str(node.target)), nn.LSTM | nn.GRU)


def _recurrent(module: nn.LSTM | nn.GRU, input_: Tensor) -> Rule | None:
    random = module.dropout and module.training
    plain = module.batch_first and not module.bidirectional and not random
    projected = isinstance(module, nn.LSTM) and module.proj_size > 0
    compiled = input_.device.type == "cpu" and input_.dtype in {torch.float32, torch.float64}
    # With gradients, torch's own loop over the steps is faster than ours in Python.
    if not plain or projected or not compiled or torch.is_grad_enabled():
        return None
    return LastState(module, input_.shape[1])


def _of_pool(module: nn.Module, input_: Tensor, output: Tensor) -> Rule | None:
    if isinstance(module, nn.AdaptiveAvgPool1d) and output.shape[-1] == 1:
        return Mean(input_.shape[_TIME])
    if isinstance(module, nn.AdaptiveMaxPool1d) and output.shape[-1] == 1:
        return GlobalMax(input_.shape[_TIME])
    if isinstance(module, nn.MaxPool1d) and not (module.ceil_mode or module.return_indices):
        stride = _one(module.stride if module.stride is not None else module.kernel_size)
        return MaxPool(
            kernel=_one(module.kernel_size),
            stride=stride,
            padding=_one(module.padding),
            dilation=_one(module.dilation),
            length=output.shape[_TIME],
        )
    if isinstance(module, nn.AvgPool1d) and not module.ceil_mode:
        padding = _one(module.padding)
        if padding and not module.count_include_pad:
            return None
        channels, kernel = input_.shape[1], _one(module.kernel_size)
        weight = input_.new_full((channels, 1, kernel), 1 / kernel)
        stride = _one(module.stride)
        return Conv(weight, stride, padding, 1, channels, output.shape[_TIME])
    return None


def _of_function(
    node: fx.Node, input_: Tensor, output: Tensor, values: Mapping[str, Any]
) -> Rule | None:
    target, args = node.target, node.args
    if target in {functional.relu, torch.relu}:
        return Relu()
    if target in _ACTIVATIONS:
        extra = {k: v for k, v in node.kwargs.items() if k not in {"inplace", "input"}}
        function = _ACTIVATIONS[target]
        return Pointwise(
            lambda x: function(x, *args[1:2], **extra) if args[1:2] else function(x, **extra)
        )
    if target in {torch.conv1d, functional.conv1d}:
        return _functional_conv(node, output, values)
    if target is functional.pad:
        return _pad(node, input_, output)
    if target in {torch.cat, torch.concat}:
        axis = node.kwargs.get("dim", args[1] if len(args) > 1 else 0)
        whole = len(cast("Sequence[Any]", args[0])) == len(node.all_input_nodes)
        return Join() if axis == 1 and whole else None
    if target in {operator.add, operator.iadd, torch.add, *_DIFFERENCES}:
        return _sum(node, values)
    if target in {operator.mul, operator.imul, torch.mul, *_QUOTIENTS}:
        return _product(node)
    if target in {operator.neg, torch.neg}:
        return Scale(-1.0)
    if target is operator.getitem:
        return _getitem(node, input_)
    if target in {torch.mean, torch.flatten, torch.squeeze, torch.sum}:
        return _reduction(str(getattr(target, "__name__", "")), node, input_, output)
    return None


def _of_method(node: fx.Node, input_: Tensor, output: Tensor) -> Rule | None:
    name = str(node.target)
    if name == "relu":
        return Relu()
    if name in {"tanh", "sigmoid"}:
        return Pointwise(getattr(torch, name))
    if name in {"mean", "flatten", "squeeze", "sum"}:
        return _reduction(name, node, input_, output)
    if name in {"contiguous", "clone"}:
        return Same()
    return None


def _conv(module: nn.Conv1d, output: Tensor) -> Rule | None:
    if module.padding_mode != "zeros":
        return None
    left = module._reversed_padding_repeated_twice[0]
    return Conv(
        module.weight,
        module.stride[0],
        left,
        module.dilation[0],
        module.groups,
        output.shape[_TIME],
    )


def _functional_conv(node: fx.Node, output: Tensor, values: Mapping[str, Any]) -> Rule | None:
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    found = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    weight = found["weight"]
    if not isinstance(weight, fx.Node) or isinstance(found.get("padding"), str):
        return None
    return Conv(
        values[weight.name],
        _one(found.get("stride", 1)),
        _one(found.get("padding", 0)),
        _one(found.get("dilation", 1)),
        int(cast(int, found.get("groups", 1))),
        output.shape[_TIME],
    )


def _pad(node: fx.Node, input_: Tensor, output: Tensor) -> Rule | None:
    names = ("input", "pad", "mode", "value")
    found = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    pad = cast("Sequence[int]", found["pad"])
    zeros = found.get("mode", "constant") == "constant" and not found.get("value")
    if input_.ndim != 3 or len(pad) != 2 or not zeros or min(pad) < 0:
        return None
    return Shift(pad[0], output.shape[_TIME])


def _sum(node: fx.Node, values: Mapping[str, Any]) -> Rule | None:
    if node.kwargs:  # alpha
        return None
    sign = -1.0 if node.target in _DIFFERENCES else 1.0
    nodes = [arg for arg in node.args if isinstance(arg, fx.Node)]
    if len(nodes) == 2:
        shapes = {tuple(values[n.name].shape) for n in nodes}
        both = nodes[0] is not nodes[1] and all(n.op != "get_attr" for n in nodes)
        return Sum((1.0, sign)) if both and len(shapes) == 1 else None
    return Scale(1.0 if isinstance(node.args[0], fx.Node) else sign)


def _product(node: fx.Node) -> Rule | None:
    left, right = node.args[0], node.args[1]
    if isinstance(right, int | float):
        return Scale(1 / right if node.target in _QUOTIENTS else float(right))
    if isinstance(left, int | float) and node.target not in _QUOTIENTS:
        return Scale(float(left))
    return None


def _getitem(node: fx.Node, input_: Any) -> Rule | None:
    index = node.args[1]
    if not isinstance(input_, Tensor) or not isinstance(index, tuple) or len(index) < 2:
        return None
    everything = slice(None)
    rest = [part for i, part in enumerate(index) if i != 1]
    if all(part == everything for part in rest) and isinstance(index[1], slice):
        return Channels(index[1])
    return None


def _reduction(name: str, node: fx.Node, input_: Tensor, output: Tensor) -> Rule | None:
    if name == "flatten":
        return _flatten(input_) if output.ndim == 2 else None
    if name == "squeeze":
        return Same() if input_.ndim == 3 and input_.shape[-1] == 1 and output.ndim == 2 else None
    axis = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
    axes = tuple(axis) if isinstance(axis, list | tuple) else (axis,)
    if input_.ndim != 3 or len(axes) != 1 or not isinstance(axes[0], int):
        return None
    if axes[0] % 3 == _TIME and name == "mean":
        return Mean(input_.shape[_TIME])
    if axes[0] % 3 == 1 and name == "sum" and output.ndim == 3:
        return Channels(None)
    return None


def _flatten(input_: Tensor) -> Rule:
    if input_.ndim == 2 or input_.shape[-1] == 1:  # already a vector: pooled over time
        return Same()
    return Flatten(input_.shape[_TIME])


def _norm_factor(norm: nn.BatchNorm1d, input_: Tensor) -> Tensor:
    """Return the factor of a batch norm; in training, by the statistics of the clean batch.

    So perturbed copies are normalized as the clean series are, and leave the statistics alone.
    """
    variance = norm.running_var
    if norm.training or variance is None:
        axes = [axis for axis in range(input_.ndim) if axis != 1]
        # Torch's own `var` takes nine times as long over axes that do not lie side by side.
        variance = (input_ - input_.mean(axes, keepdim=True)).square().mean(axes)
    factor = (variance + norm.eps).rsqrt()
    return factor if norm.weight is None else factor * norm.weight


def _pure(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return an activation that leaves its input alone, whatever its `inplace`."""
    if getattr(module, "inplace", False):
        return lambda x: cast(Tensor, module(x.clone()))
    return cast("Callable[[Tensor], Tensor]", module)


def _one(value: Any) -> int:
    return int(value[0] if isinstance(value, list | tuple) else value)
