"""The networks: plain `nn.Module`s that map series (N, C, T) to logits (N, K).

A teacher and a student differ only in family, width and depth.
"""

from edgedistill import public_name

__all__ = [
    "FAMILIES",
    "FCN",
    "LARGEST",
    "LITE",
    "LSTM",
    "Argument",
    "Cost",
    "FactorySpec",
    "Family",
    "Inception",
    "ModelSpec",
    "NetworkSpec",
    "ResNet",
    "SelfExplainingNetwork",
    "WithExplanation",
    "build",
    "cost",
]
_HOMES = {
    "costs": ("Cost", "cost"),
    "explained": ("SelfExplainingNetwork", "WithExplanation"),
    "families": ("FCN", "LSTM", "Inception", "ResNet"),
    "lite": ("LITE",),
    "networks": ("build",),
    "spec": (
        "FAMILIES",
        "LARGEST",
        "Argument",
        "FactorySpec",
        "Family",
        "ModelSpec",
        "NetworkSpec",
    ),
}


def __getattr__(name: str) -> object:
    return public_name(__name__, _HOMES, name)
