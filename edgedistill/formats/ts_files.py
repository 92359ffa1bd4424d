"""Files in the `.ts` format of the UEA archive: a header, then `channel:channel:...:label`."""

from __future__ import annotations

from edgedistill.errors import DataError
from edgedistill.formats.cells import split_cells
from edgedistill.formats.rows import Row, stack_channels, to_numbers

_COMMENTS = ("#", "%")
_CLASSES = ("@classlabel", "@classlabels")


class TsReader:
    """Reader of the lines of a `.ts` file, one at a time.

    Source: https://www.aeon-toolkit.org/en/stable/api_reference/file_specifications/ts.html
    """

    def __init__(self) -> None:
        """Start before the header."""
        self.has_labels = False
        self.in_data = False

    def read_line(self, line: str) -> Row | None:
        """Return the series of a line; None for a line of the header, a comment or an empty line.

        Raises:
            DataError: no header, timestamps, or a cell that is not a number.
            ShapeError: the channels of the series differ in length.
        """
        text = line.strip()
        if is_ts_comment(text) or not text:
            return None
        if not self.in_data:
            self._read_tag(text)
            return None
        parts = text.split(":")
        label = parts.pop().strip() if self.has_labels else None
        if not parts:
            raise DataError("The row has a label, but no series. Remove it.")
        cells = [split_cells(part) for part in parts]
        series = stack_channels([to_numbers(part, range(len(part)), ".") for part in cells])
        return Row(series=series, label=label)

    def _read_tag(self, text: str) -> None:
        tag, *values = text.lower().split()
        if tag == "@data":
            self.in_data = True
        elif tag in _CLASSES:
            self.has_labels = values[:1] == ["true"]
        elif tag == "@timestamps" and values[:1] != ["false"]:
            raise DataError(
                "The file has timestamps, which are not read. Resample it to even steps and save "
                "it with '@timeStamps false'."
            )
        elif not tag.startswith("@"):
            raise DataError(
                "The file has no @data line before its series, so it is no .ts file. Add the line, "
                "or name a table .csv."
            )


def is_ts_comment(text: str) -> bool:
    """Whether a line is a comment."""
    return text.startswith(_COMMENTS)
