"""The number formats that each runtime supports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from edgedistill.errors import ConfigError

Precision = Literal["fp32", "fp16", "bf16", "int8", "w8a16"]
RuntimeName = Literal["onnxruntime", "tensorrt"]

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
SHORT_NAMES: dict[RuntimeName, str] = {"onnxruntime": "ort", "tensorrt": "trt"}  # of files
FORMS: dict[RuntimeName, tuple[Precision, ...]] = {
    "onnxruntime": ("fp32", "fp16", "int8", "w8a16"),  # its CPU has no bfloat16 convolution
    "tensorrt": PRECISIONS,
}


def check_forms(runtimes: Sequence[str], precisions: Sequence[str]) -> None:
    """Refuse runtimes and precisions that do not exist or do not fit together.

    A precision that only some of the runtimes have a form of is made for those.

    Raises:
        ConfigError: no such runtime or precision, or a precision that none of the runtimes has.
    """
    for kind, known, asked in (
        ("runtime", tuple(FORMS), runtimes),
        ("precision", PRECISIONS, precisions),
    ):
        unknown = [name for name in asked if name not in known]
        if unknown:
            raise ConfigError(f"There is no {kind} {unknown[0]!r}. Choose from {', '.join(known)}.")
    forms = {name: FORMS[name] for name in FORMS if name in runtimes}
    for precision in precisions:
        if not any(precision in known for known in forms.values()):
            has = "; ".join(f"{name} has {', '.join(known)}" for name, known in forms.items())
            raise ConfigError(
                f"None of these runtimes has a form of {precision}: {has}. Choose from those."
            )
