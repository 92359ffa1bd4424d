"""How far two models differ: their outputs, their maps, and the first layer that differs."""

from edgedistill import public_name

__all__ = [
    "ComparedModel",
    "Comparison",
    "LayerError",
    "Network",
    "compare",
    "comparison",
    "open_comparison",
]
_HOMES = {
    "activations": ("Network",),
    "comparison": ("ComparedModel", "Comparison", "compare"),
    "inputs": ("open_comparison",),
    "layer_errors": ("LayerError",),
}


def __getattr__(name: str) -> object:
    return public_name(__name__, _HOMES, name)
