"""Values that no damage to a real file would give: any JSON, and any line of text."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgedistill.bundle import manifest
from edgedistill.device.predict.inputs import LineSplitter, SeriesLines, StepLines
from edgedistill.device.releases import layout as releases
from edgedistill.errors import EdgeDistillError
from edgedistill.evaluation.contract import Contract
from edgedistill.io import files
from edgedistill.preprocessing.transforms import Preprocessing
from edgedistill.report import from_json
from edgedistill.runtimes.session_settings import SessionSettings
from edgedistill.runtimes.tensorrt import engine_cache
from edgedistill.saliency.perturbation import PerturbationPlan

pytestmark = pytest.mark.slow

quick = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
NAMES = st.sampled_from(
    ["format", "name", "files", "models", "golden", "chosen", "length", "width", "threads", "mean"]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([manifest.FORMAT, releases.FORMAT, engine_cache.FORMAT, "cpu", 10**400])
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(NAMES | st.text(max_size=6), inner, max_size=6)
    ),
    max_leaves=20,
)


def _in_file(read, name):
    def from_file(value, folder):
        (folder / name).write_text(json.dumps(value))
        read(folder)

    return from_file


def _engine(folder):
    (folder / engine_cache.PLAN).touch()
    engine_cache.read(folder / engine_cache.PLAN)


READERS = {
    "manifest": _in_file(lambda folder: manifest.read(folder / "m.json"), "m.json"),
    "release": _in_file(releases.read, releases.RECORD),
    "engine": _in_file(_engine, engine_cache.FACTS),
    "report": _in_file(lambda folder: from_json(files.read_json(folder / "r.json")), "r.json"),
    "preprocessing": lambda value, _: Preprocessing.from_dict(value),
}
OF_OBJECTS = {  # the manifest has seen to it that these are objects
    "session": SessionSettings.from_dict,
    "plan": PerturbationPlan.from_dict,
    "contract": Contract.from_dict,
}
CONVERTED = (TypeError, ValueError, OverflowError)  # `open_bundle` makes errors of ours of them


def _refusal(read, *values, also=()):
    """Return what a reader says against a value; None if it takes it."""
    try:
        read(*values)
    except (EdgeDistillError, *also) as error:
        return str(error)
    return None


@pytest.mark.parametrize("reader", READERS)
@quick
@given(value=ANYTHING)
def test_any_json_is_read_or_refused(reader, value, tmp_path):
    """Only our own errors come out, each with a message."""
    assert _refusal(READERS[reader], value, tmp_path) != ""


@pytest.mark.parametrize("reader", OF_OBJECTS)
@quick
@given(values=st.dictionaries(NAMES | st.text(max_size=6), ANYTHING, max_size=6), data=st.data())
def test_any_object_is_read_or_refused(reader, values, data):
    """Also one that has all the right names."""
    sound = {
        "session": SessionSettings().to_dict(),
        "plan": PerturbationPlan(length=24, width=3, stride=1).to_dict(),
        "contract": {"min_agreement": 0.9},
    }[reader]
    known = data.draw(st.dictionaries(st.sampled_from(sorted(sound)), SCALARS, max_size=3))

    for asked in (values, {**sound, **known}):
        assert _refusal(OF_OBJECTS[reader], asked, also=CONVERTED) != ""


@quick
@given(content=st.binary(max_size=200) | st.text(max_size=80).map(lambda text: text.encode()))
def test_any_line_is_read_or_refused(content):
    """Each line alone, whatever came before; a series that is read has the right shape."""
    series, steps, splitter = SeriesLines(2), StepLines(2), LineSplitter(max_bytes=64)

    for line in (*splitter.feed(content), *splitter.finish()):
        item, step = series.item(line), steps.step(line)

        assert item is None or (item.series is None) != (item.error is None)
        assert item is None or item.series is None or (item.series.ndim, len(item.series)) == (2, 2)
        assert not isinstance(step, np.ndarray) or step.shape == (2,)
