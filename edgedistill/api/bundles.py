"""Bundles in Python: prediction on this machine, and deployment to boards."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgedistill.api.datasets import series_arrays
from edgedistill.api.display import html_table
from edgedistill.bundle.reader import open_bundle
from edgedistill.errors import (
    ContractError,
    DataError,
    EdgeDistillError,
    IntegrityError,
    MachineError,
    UsageError,
)

if TYPE_CHECKING:
    from edgedistill.deployment.steps import Event, EventCallback, Outcome
    from edgedistill.device.predict.predictor import Predictor
    from edgedistill.device.validate import Validation

_ERRORS = (UsageError, DataError, ContractError, MachineError, IntegrityError)


class BundleFile:
    """A bundle: its model predicts series here as it does on a board.

    Args:
        path: path of a bundle, a folder or a zip, or of the folder of a run that has one.

    Raises:
        ContractError: a run whose contract is broken has no bundle.
        UsageError: there is nothing at `path`.
        IntegrityError: it is damaged, or no bundle.
    """

    def __init__(self, path: str | Path) -> None:
        from edgedistill.device.predict.predictor import Predictor
        from edgedistill.device.runtime import start

        self.path = Path(path)
        with open_bundle(self.path) as bundle:
            model = bundle.model()
            self.name = bundle.name
            self.model = model.name
            self.class_names = bundle.class_names
            self._size_bytes = model.size_bytes
            self._predictor: Predictor = Predictor(bundle, start(model))

    def predict(self, x: Any) -> NDArray[np.str_]:
        """Return the predicted class of each series, (N,), by name.

        Args:
            x: series as they were recorded: what `Dataset` takes, or a path to a file of them.

        Raises:
            DataError: a series cannot be used; the message has its place.
        """
        names: NDArray[np.str_] = np.array(self.class_names)[self.predict_proba(x).argmax(axis=1)]
        return names

    def predict_proba(self, x: Any) -> NDArray[np.float64]:
        """Return the probability of each class, (N, K), in the order of `class_names`."""
        predictor = self._predictor
        with _opened(x) as stream:
            from edgedistill.device.predict.readers import series_items

            items = list(
                series_items(stream, predictor.channels, predictor.schema, self.class_names)
            )
        rows = []
        for number, item in enumerate(items):
            result = predictor.predict_item(item)
            if result.prediction is None:
                raise DataError(f"Series {number}: {result.error}")
            rows.append(result.prediction.probabilities)
        if not rows:
            raise DataError("There are no series to predict.")
        return np.stack(rows)

    def validate(self) -> Validation:
        """Recompute the golden set here and judge the contract, as a board does.

        Raises:
            MachineError: the model cannot be run here.
            IntegrityError: the bundle was damaged.
        """
        from edgedistill.device.validate import validate

        with open_bundle(self.path) as bundle:
            return validate(bundle)

    def __repr__(self) -> str:
        return f"Bundle {self.name!r}: {', '.join(' '.join(row) for row in self._rows())}"

    def _repr_html_(self) -> str:
        return html_table(f"Bundle {self.name}", self._rows())

    def _rows(self) -> list[tuple[str, str]]:
        return [
            ("model", f"{self.model} ({self._size_bytes:,} bytes)"),
            ("classes", " ".join(self.class_names)),
            ("file", str(self.path)),
        ]


def deploy(
    bundle: BundleFile | str | Path,
    *boards: str,
    unsigned: bool = False,
    out: str | Path = "boards",
    on_event: EventCallback | None = None,
    **settings: Any,
) -> list[Outcome]:
    """Bring a bundle to boards over SSH, validate it there, and make it run.

    Args:
        bundle: bundle, or its path.
        boards: boards, `user@host:port`.
        unsigned: whether the boards take it without asking who signed it.
        out: folder for the boards' reports.
        on_event: callback for every event.
        settings: further fields of `edgedistill.deployment.Request`, such as `dry_run`.

    Returns:
        The outcome of each board, in their order.

    Raises:
        EdgeDistillError: a board could not be deployed to; all others are done.

    >>> deploy("absent.zip", "pi@board.local")
    Traceback (most recent call last):
    edgedistill.errors.UsageError: There is no bundle at absent.zip. Check the path.
    """
    from edgedistill.deployment import hosts
    from edgedistill.deployment.connection import SshOptions
    from edgedistill.deployment.deploy import deploy_to_all
    from edgedistill.deployment.payload import prepare_payload
    from edgedistill.deployment.steps import Request

    path = bundle.path if isinstance(bundle, BundleFile) else Path(bundle)
    request = Request(unsigned=unsigned, out=Path(out), **settings)
    parsed = [hosts.parse(board) for board in boards]
    if not parsed:
        raise UsageError("Name a board, such as pi@board.local.")
    with (
        prepare_payload(path, model=request.model, unsigned=unsigned) as payload,
        ThreadPoolExecutor(1) as thread,  # a notebook has a loop of events already
    ):
        work = deploy_to_all(payload, parsed, SshOptions(), request, on_event or _ignore_event)
        outcomes = thread.submit(asyncio.run, work).result()
    _raise_failures(outcomes)
    return outcomes


def _ignore_event(event: Event) -> None:
    """Report nothing."""


def _raise_failures(outcomes: Sequence[Outcome]) -> None:
    from edgedistill.deployment.steps import exit_code

    code = exit_code(outcomes)
    if code:
        failures = [f"{each.host}: {each.message}" for each in outcomes if each.code]
        kinds = {error.exit_code: error for error in _ERRORS}
        raise kinds.get(code, EdgeDistillError)("\n".join(failures))


def _opened(x: Any) -> io.BufferedReader:
    """Return a stream of series, as `predict` reads them."""
    if isinstance(x, str | Path):
        try:
            return Path(x).open("rb")
        except OSError as error:
            raise DataError(f"Cannot read {x}: {error.strerror}. Check the path.") from error
    content = io.BytesIO()
    if hasattr(x, "to_csv"):
        content.write(x.to_csv(index=False).encode())
    else:
        np.savez(content, allow_pickle=False, **series_arrays(x))
    content.seek(0)
    return io.BufferedReader(content)  # type: ignore[type-var, unused-ignore]
