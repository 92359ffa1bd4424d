"""A file means the same series in training, as a test file, and to `predict`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from fuzzing.tables import FORMATS, PARQUET, write_set
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgedistill.data import RawSeries, load
from edgedistill.device.predict.readers import series_items
from edgedistill.formats.schema import InputSchema

pytestmark = pytest.mark.slow

USABLE = FORMATS + (PARQUET if find_spec("pyarrow") else ())


def _predicted(path: Path, train: RawSeries) -> list[np.ndarray]:
    """Return the series that `predict` makes of a file, by the schema that a bundle carries."""
    assert train.schema is not None
    schema = InputSchema.from_dict(train.schema.to_dict())
    with path.open("rb") as stream:
        items = list(series_items(stream, train.channels, schema, sorted(set(train.labels))))
    assert [item.error for item in items] == [None] * len(items)
    return [item.series for item in items]


@pytest.mark.parametrize("kind", [*FORMATS, *PARQUET])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
@example(seed=0)
def test_same_series_in_training_and_predict(kind, seed):
    """Of both files: gaps, padding, unequal lengths, names, orders, separators, channels."""
    if kind not in USABLE:
        pytest.skip("pyarrow is not installed")
    with TemporaryDirectory() as folder:
        written = write_set(Random(seed), Path(folder), [kind])

        source = load(str(written.train), str(written.test))

        assert source.test is not None
        for raw, path, series, labels in zip(
            (source.train, source.test),
            (written.train, written.test),
            written.series,
            written.labels,
            strict=True,
        ):
            assert raw.labels == labels
            _assert_equal(raw.series, series)
            _assert_equal(_predicted(path, source.train), series)


def _assert_equal(actual: list[np.ndarray], expected: list[np.ndarray]) -> None:
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(one, other)
