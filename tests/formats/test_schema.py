"""A schema is what training saw, in a bundle as before."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgedistill.errors import IntegrityError
from edgedistill.formats.schema import InputSchema, Roles

NAN = np.nan
SCHEMA = InputSchema(
    layout="wide",
    header=True,
    roles=Roles(label="state", ignore=("a", 3), resample_step=5.0),
    label_at=1,
    other_at=(0, 1),
    channels=("x#", "y#"),
    lengths=(3, 9),
    widths=(3, 9),
)


def test_schema_goes_through_json():
    """And comes back equal."""
    assert InputSchema.from_dict(json.loads(json.dumps(SCHEMA.to_dict()))) == SCHEMA


@pytest.mark.parametrize(
    "change",
    [
        {"layout": "tall"},
        {"decimal": "x"},
        {"header": 1},
        {"label_at": -1},
        {"lengths": [1]},
        {"other_at": [0, "1"]},
        {"channels": "xy"},
        {"roles": None},
        {"roles": {"label": "a"}},
        {"more": 1},
    ],
    ids=str,
)
def test_damaged_schema_is_refused(change):
    """A manifest comes from elsewhere."""
    with pytest.raises(IntegrityError, match="description of the input files cannot be used"):
        InputSchema.from_dict({**SCHEMA.to_dict(), **change})


@pytest.mark.parametrize("roles", [{"resample_step": 0}, {"label": 1.5}, {"ignore": [None, []]}])
def test_damaged_roles_are_refused(roles):
    """Each of their values is checked."""
    facts = SCHEMA.to_dict()

    with pytest.raises(IntegrityError):
        InputSchema.from_dict({**facts, "roles": {**facts["roles"], **roles}})


@pytest.mark.parametrize(
    ("series", "padding", "lengths"),
    [
        ([[[1, 2, NAN, NAN]], [[1, 2, 3, 4]]], True, (2, 4)),
        ([[[NAN, 2, 3, NAN]], [[1, 2, 3, 4]]], True, (2, 4)),
        ([[[1, 2, NAN, NAN]], [[1, NAN, 3, 4]]], False, (4, 4)),
        ([[[1, 2, 3]], [[1, 2, 3, 4]]], True, (3, 4)),
        ([[[1, 2, 3, 4]], [[1, 2, 3, 4]]], False, (4, 4)),
        ([[[1, 2, NAN, NAN], [1, 2, 3, NAN]]], False, (4, 4)),
    ],
    ids=["end", "both ends", "gaps", "lengths differ", "whole", "shorter channel"],
)
def test_training_series_tell_whether_nan_are_padding(series, padding, lengths):
    """At the ends only they are; a shorter channel has missing values."""
    fitted = SCHEMA.fitted([np.array(one, dtype=float) for one in series])

    assert (fitted.padding, fitted.lengths) == (padding, lengths)
    cut = fitted.without_padding(np.array([[NAN, 1.0, 2.0, NAN]]))
    assert cut.shape[1] == (2 if padding else 4)


@pytest.mark.parametrize(
    ("lengths", "steps", "remark"),
    [
        ((24, 24), 24, None),
        ((20, 24), 22, None),
        ((24, 24), 25, "25 values where training had 24: is the first or the last one a label"),
        ((24, 24), 20, "20 values where training had 24"),
        ((20, 24), 25, "25 values where training had 20 to 24"),
    ],
)
def test_length_that_training_did_not_see(lengths, steps, remark):
    """With the likely reason."""
    found = InputSchema(layout="arrays", lengths=lengths).length_remark(steps)

    assert (found is None) if remark is None else found.startswith(remark)
