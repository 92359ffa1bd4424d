"""From files to series: what a file holds and what its columns are, on workstation and board.

NumPy and the standard library only.
"""

from edgedistill import public_name

__all__ = [
    "MAX_VALUES",
    "NO_LABEL",
    "ArraySeries",
    "ColumnRole",
    "InputSchema",
    "Line",
    "ReadResult",
    "Role",
    "Roles",
    "Row",
    "RowReader",
    "TestOrigin",
    "TsReader",
    "array_series",
    "canonical_label",
    "is_number",
    "learn_schema",
    "parquet_lines",
    "quote",
    "raw_labels",
    "read_long",
    "read_npz_series",
    "read_rows",
    "split_cells",
    "spreadsheet_cell",
    "stack_channels",
    "to_number",
    "to_numbers",
    "uneven_remark",
]
_HOMES = {
    "arrays": ("ArraySeries", "array_series", "read_npz_series"),
    "cells": (
        "MAX_VALUES",
        "NO_LABEL",
        "canonical_label",
        "is_number",
        "quote",
        "split_cells",
        "spreadsheet_cell",
        "to_number",
    ),
    "long_tables": ("uneven_remark",),
    "parquet": ("parquet_lines",),
    "rows": ("ReadResult", "Row", "RowReader", "stack_channels", "to_numbers"),
    "schema": ("ColumnRole", "InputSchema", "Role", "Roles", "TestOrigin"),
    "tables": ("Line", "learn_schema", "raw_labels", "read_long", "read_rows"),
    "ts_files": ("TsReader",),
}


def __getattr__(name: str) -> object:
    return public_name(__name__, _HOMES, name)
