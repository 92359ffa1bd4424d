"""Lines become series or errors, one by one, whatever they hold."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgedistill.device.predict import inputs
from edgedistill.device.predict.inputs import LineSplitter, SeriesLines, StepLines
from edgedistill.formats import rows


def _read(text: str | bytes, channels: int = 1, **options: bool) -> list[inputs.Item]:
    lines = SeriesLines(channels, **options)
    content = text.encode() if isinstance(text, str) else text
    found = [lines.item(line) for line in content.split(b"\n")]
    return [item for item in found if item is not None]


@pytest.mark.parametrize(
    "line",
    [
        *("1,2.5,-3e1", "1\t2.5\t-30", "1;2.5;-30", " 1  2.5 -30\r"),
        *("[1, 2.5, -30]", "[[1, 2.5, -30]]"),
        *('{"series": [1, 2.5, -30]}', '{"series": [[1, 2.5, -30]], "site": "x"}'),
    ],
)
def test_one_series_written_in_many_ways(line):
    """Text with any separator, JSON arrays and objects are the same series."""
    (item,) = _read(line)

    assert item.error is None
    assert item.place == {"line": 1}
    np.testing.assert_array_equal(item.series, [[1, 2.5, -30]])


@pytest.mark.parametrize("line", ["1,2:3,4", "1 2:3 4", "[[1, 2], [3, 4]]"])
def test_channels(line):
    """Colons part the channels in text, as in .ts files; JSON has an array for each."""
    (item,) = _read(line, channels=2)

    np.testing.assert_array_equal(item.series, [[1, 2], [3, 4]])


@pytest.mark.parametrize("line", ["1,,3", "1,NaN,3", "1,?,3", "[1, null, 3]", "[1, NaN, 3]"])
def test_missing_values(line):
    """A missing value is NaN, also at the place where nothing stands."""
    (item,) = _read(line)

    np.testing.assert_array_equal(item.series, [[1, np.nan, 3]])


@pytest.mark.parametrize("id_", ["a1", 7])
def test_id_is_kept(id_):
    """What the sender calls the series is what the answer will be called."""
    (item,) = _read(json.dumps({"id": id_, "series": [1, 2]}))

    assert item.id == id_


def test_header_names_what_is_no_value():
    """Columns called id, label and time are taken out, wherever they stand; lines still count."""
    items = _read("time,ID,t0,t1,label\n0,a,1,2,walk\n\n0,b,3,4,run\n")

    assert [(item.place["line"], item.id) for item in items] == [(2, "a"), (4, "b")]
    np.testing.assert_array_equal([item.series for item in items], [[[1, 2]], [[3, 4]]])


def test_header_of_names_alone():
    """A first line without any number is a header; the same line later is an error."""
    first, second = _read("low,high\n1,2\nlow,high")

    assert first.error is None
    assert '"low", not a number' in second.error


def test_no_header_where_each_line_gets_a_reply():
    """Somebody waits for the answer to the first line too."""
    (item,) = _read("low,high", header=False)

    assert item.error is not None


def test_byte_order_mark_is_ignored():
    """Spreadsheets put one in front of the first line."""
    (item,) = _read("1,2".encode("utf-8-sig"))

    assert item.error is None


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"1,two,3\n", 'Value 2 is "two", not a number'),
        (b"1,1_000\n", 'Value 2 is "1_000"'),
        (b"1,2\n1,\xff\n", "not UTF-8"),
        (b'{"series": [1,\n', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"serie": [1]}', 'has "serie", but no "series"'),
        (b"{}", "has nothing"),
        (b'{"series": "1,2"}', '"1,2" stands where an array'),
        (b'{"series": [1, true]}', "Value 2 is true"),
        (b'{"series": [1, "2"]}', 'Value 2 is "2"'),
        (b'{"series": [[1], 2]}', "2 stands where an array"),
        (b'{"series": [1, {"a": 1}]}', "Value 2 is an object"),
        (b'{"series": [1, [2]]}', "Value 2 is an array"),
        (b"[1" + b"0" * 400 + b"]", "too large for a number"),
        (b'{"id": [1], "series": [1]}', "The id is an array"),
        (b'{"id": "' + b"x" * 300 + b'", "series": [1]}', "at most 256 characters"),
        (b"1,2:3,4", "has 2 channels, the model takes 1"),
        (b"[[1, 2], [3]]", "have 2, 1 values"),
    ],
    ids=range(18),
)
def test_bad_line_is_an_item_with_a_reason(line, told):
    """Nothing is raised: the stream goes on after it."""
    bad = [item for item in _read(line) if item.error is not None]

    assert len(bad) == 1
    assert told in bad[0].error
    assert bad[0].series is None


def test_a_wrong_value_is_shown_short_and_without_control_characters():
    """What a stranger sends goes to terminals and logs."""
    (item,) = _read("1,\x1b[2J" + "x" * 1_000, header=False)

    assert "\x1b" not in item.error
    assert len(item.error) < 200


@pytest.mark.parametrize("line", ["1," * 30, "[" + "1," * 29 + "1]"])
def test_too_many_values(line, monkeypatch):
    """The bound holds for text and JSON, before the numbers are made."""
    for module in (inputs, rows):
        monkeypatch.setattr(module, "MAX_VALUES", 20)

    (item,) = _read(line)

    assert "more than 20 values" in item.error


def test_steps():
    """A line is a number a channel; a header may name the columns."""
    lines = StepLines(2)
    text = "time,x,y\n0,1,2\n\n1,3,\n"

    steps = [lines.step(line) for line in text.encode().split(b"\n")]

    assert [step is None for step in steps] == [True, False, True, False, True]
    np.testing.assert_array_equal(steps[1], [1, 2])
    np.testing.assert_array_equal(steps[3], [3, np.nan])
    np.testing.assert_array_equal(lines.step(b"[5, null]"), [5, np.nan])


@pytest.mark.parametrize(
    ("line", "told"),
    [(b"1,2,3", "has 3 values"), (b"1", "has 1 values"), (b'{"x": 1}', "an object stands")],
)
def test_bad_step_is_an_item_with_a_reason(line, told):
    """It names what came and how many channels there are."""
    item = StepLines(2).step(line)

    assert told in item.error
    assert item.place == {"line": 1}


def test_splitter_gives_what_split_gives(rng):
    """However the bytes are cut into chunks."""
    content = bytes(rng.choice(list(b"ab\n\r,"), size=3_000).astype(np.uint8))
    cuts = sorted(rng.integers(0, len(content), size=200).tolist())
    splitter = LineSplitter()

    lines = []
    for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True):
        lines += splitter.feed(content[start:end])
    lines += splitter.finish()

    expected = content.split(b"\n")
    assert lines == (expected if expected[-1] else expected[:-1])


def test_splitter_keeps_nothing_of_a_line_that_is_too_long():
    """It is reported once, and the next line is read as if nothing had been."""
    splitter = LineSplitter(max_bytes=10)

    lines = [*splitter.feed(b"x" * 8), *splitter.feed(b"x" * 8), *splitter.feed(b"x\n123456789")]
    lines += [*splitter.feed(b"0\nabc"), *splitter.feed(b"d" * 20), *splitter.finish()]

    assert lines == [None, b"1234567890", None]


def test_too_long_line_is_an_item_with_a_reason():
    """None stands for it, and it has its number."""
    item = SeriesLines(1).item(None)

    assert str(inputs.MAX_LINE_BYTES) in item.error
    assert item.place == {"line": 1}
