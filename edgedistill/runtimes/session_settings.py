"""Session settings of ONNX Runtime: stored in a bundle, applied on a board.

None of the settings may change a model's logits; they change the time of a call. INT8 on x86
processors without VNNI does change them: there ONNX Runtime adds pairs of products in 16 bits,
which saturate, unless its exact mode is on. A session whose logits are used is exact; one that is
only timed may be as fast as the processor allows. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal, get_args

from edgedistill.errors import UsageError

Optimization = Literal["none", "basic", "extended", "all"]
Execution = Literal["sequential", "parallel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    """Settings of an ONNX Runtime session; the defaults are its own, on one thread."""

    threads: int = 1  # that share the work of an operator
    spinning: bool = True  # threads that wait stay awake: faster, and warmer
    optimization: Optimization = "all"  # of the graph when it is loaded
    execution: Execution = "sequential"  # parallel: branches of the graph at the same time
    memory_arena: bool = True  # keep memory between calls instead of giving it back

    def __post_init__(self) -> None:
        if type(self.threads) is not int or self.threads < 1:
            raise UsageError(f"threads is {self.threads!r}; give 1 or more.")
        for name in ("spinning", "memory_arena"):
            if type(getattr(self, name)) is not bool:
                raise UsageError(f"{name} is {getattr(self, name)!r}; give true or false.")
        for name, choices in (("optimization", Optimization), ("execution", Execution)):
            if getattr(self, name) not in get_args(choices):
                raise UsageError(
                    f"{name} is {getattr(self, name)!r}; choose from "
                    f"{', '.join(get_args(choices))}."
                )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SessionSettings:
        """Return the settings of `to_dict`.

        Raises:
            UsageError: a setting is unknown, missing or makes no sense.
        """
        names = {field.name for field in fields(cls)}
        missing, unknown = sorted(names - values.keys()), sorted(values.keys() - names)
        if missing or unknown:
            raise UsageError(
                f"The session settings lack {', '.join(missing) or 'nothing'} and have unknown "
                f"{', '.join(unknown) or 'nothing'}. Tune the model anew."
            )
        return cls(**values)

    def __str__(self) -> str:
        """Return the settings as one line for people."""
        return ", ".join(
            (
                f"{self.threads} thread{'' if self.threads == 1 else 's'}",
                f"spinning {'on' if self.spinning else 'off'}",
                f"optimization {self.optimization}",
                self.execution,
                f"memory arena {'on' if self.memory_arena else 'off'}",
            )
        )


DEFAULT: Final = SessionSettings()
_EXACT_INT8: Final = ("session.x64quantprecision", "1")


def use_exact_int8(options: Any) -> None:
    """Make a session compute INT8 exactly on every processor, as ARM and VNNI do.

    Args:
        options: `onnxruntime.SessionOptions`; the mode costs time on x86 without VNNI, and has no
            effect elsewhere.
    """
    options.add_session_config_entry(*_EXACT_INT8)
