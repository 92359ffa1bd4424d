"""Exceptions of edgedistill, each with its exit code.

::

    EdgeDistillError                1  anything below
    ├── UsageError                  2  an invalid command or argument
    │   └── ConfigError             2  an invalid recipe
    ├── DataError                   3  data that cannot be used
    │   ├── ShapeError              3  arrays that do not fit together
    │   └── ModelError              3  a model that cannot be used
    ├── ContractError               4  the contract is broken
    │   └── VerificationError       4  two things that must be equal are not
    ├── MachineError                5  something is missing on this machine
    │   └── LostConnectionError     5  the connection to another machine broke off
    └── IntegrityError              6  a hash, a version or an archive that cannot be trusted

A message has the value seen, its place, and the next step.
"""

from __future__ import annotations

import reprlib
from typing import ClassVar

_SHOWN = reprlib.Repr()
_SHOWN.maxlevel, _SHOWN.maxstring, _SHOWN.maxother, _SHOWN.maxlong = 4, 200, 200, 200
_SHOWN.maxdict = _SHOWN.maxlist = _SHOWN.maxtuple = 20


def brief(value: object) -> str:
    """Format a value for a message, in few characters however large or deep it is.

    >>> brief("fp7"), brief([[[[[1]]]]])
    ("'fp7'", '[[[[[...]]]]]')
    """
    return _SHOWN.repr(value)


class EdgeDistillError(Exception):
    """Base of all our errors; `exit_code` is what the command line returns."""

    exit_code: ClassVar[int] = 1


class UsageError(EdgeDistillError):
    """An invalid command or argument."""

    exit_code = 2


class ConfigError(UsageError):
    """An invalid recipe."""


class DataError(EdgeDistillError):
    """Data that cannot be used."""

    exit_code = 3


class ShapeError(DataError):
    """Arrays that do not fit together."""


class ModelError(DataError):
    """A model that cannot be used."""


class ContractError(EdgeDistillError):
    """The contract is broken."""

    exit_code = 4


class VerificationError(ContractError):
    """Two things that must be equal are not."""


class MachineError(EdgeDistillError):
    """Something is missing on this machine; the message has the command that installs it."""

    exit_code = 5


class LostConnectionError(MachineError):
    """The connection to another machine broke off; complete work there stays, to resume later."""


class IntegrityError(EdgeDistillError):
    """A hash, a version or an archive that cannot be trusted."""

    exit_code = 6
