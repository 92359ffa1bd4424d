"""The exact rule of each kind of layer for a change, as tensors beside the layer of a graph."""

from edgedistill.attribution.incremental.layers.activation import Pointwise, Relu
from edgedistill.attribution.incremental.layers.convolution import Conv
from edgedistill.attribution.incremental.layers.linear import (
    Channels,
    Dense,
    Join,
    Same,
    Scale,
    Shift,
    Sum,
)
from edgedistill.attribution.incremental.layers.pooling import Flatten, GlobalMax, MaxPool, Mean
from edgedistill.attribution.incremental.layers.recurrent import LastState
from edgedistill.attribution.incremental.layers.rule import (
    Change,
    Regions,
    Rule,
    UnsupportedModule,
    Value,
)

__all__ = [
    "Change",
    "Channels",
    "Conv",
    "Dense",
    "Flatten",
    "GlobalMax",
    "Join",
    "LastState",
    "MaxPool",
    "Mean",
    "Pointwise",
    "Regions",
    "Relu",
    "Rule",
    "Same",
    "Scale",
    "Shift",
    "Sum",
    "UnsupportedModule",
    "Value",
]
