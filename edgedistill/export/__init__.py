"""From a torch module to verified ONNX files."""

from edgedistill import public_name

__all__ = [
    "export",
    "export_explainer",
    "export_explanation",
]
_HOMES = {
    "explainer": ("export_explainer",),
    "export": ("export",),
    "predicted_map": ("export_explanation",),
}


def __getattr__(name: str) -> object:
    return public_name(__name__, _HOMES, name)
