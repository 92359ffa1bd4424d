"""Output that the commands share: exit codes and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from edgedistill.errors import ContractError
from edgedistill.io.terminal import printable_lines

if TYPE_CHECKING:
    from edgedistill.device.benchmark import Latency
    from edgedistill.report import Costs, Int8Arithmetic, Telemetry

EXIT_KEPT, EXIT_BROKEN, EXIT_INTERRUPTED = 0, ContractError.exit_code, 130
_ENDED = {
    "runs": "as asked for; the p95's interval is {:.1%} of it wide",
    "interval": "until the p95's interval was narrow enough: {:.1%} of it",
    "budget": "until the time was up; the p95's interval is {:.1%} of it wide",
}


def table(rows: Iterable[tuple[str, ...]]) -> str:
    """Return rows of the same number of cells with their columns aligned."""
    rows = [tuple(map(printable_lines, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)


def int8_rows(
    int8: Int8Arithmetic | None, text: Callable[[Int8Arithmetic], str]
) -> list[tuple[str, str]]:
    """Return the sums of a model's 8-bit products as a row; none without such products."""
    return [] if int8 is None else [("INT8", text(int8))]


def latency_rows(latency: Latency) -> list[tuple[str, str]]:
    """Return quantiles with intervals, the reason to stop, and the throughput as rows."""
    quantiles = {"p50": latency.p50_ms, "p95": latency.p95_ms, "p99": latency.p99_ms}
    rows = [
        (f"latency {name}", f"{q.value:.4f} ms ({q.low:.4f} to {q.high:.4f})")
        for name, q in quantiles.items()
    ]
    return [
        *rows,
        ("runs", f"{latency.runs}, {_ENDED[latency.ended].format(latency.p95_width)}"),
        ("throughput", f"{latency.series_per_s:.1f} series a second"),
    ]


def machine_rows(costs: Costs | None, telemetry: Telemetry | None) -> list[tuple[str, str]]:
    """Return the model's costs and the machine's telemetry as rows."""
    from edgedistill.report.telemetry import cost_rows, telemetry_rows

    taken = cost_rows(costs) if costs else []
    return [*taken, *(telemetry_rows(telemetry) if telemetry else [])]
