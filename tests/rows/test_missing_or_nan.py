"""Bad rows are refused by name, or left out so that they become NaN."""

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st

from sklearn_torch_bridge._rows._arrays import ARRAY
from sklearn_torch_bridge._rows._missing_or_nan import (
    finite_rows,
    without_bad,
    without_rows_not_finite,
)
from tests.rows import given_rows

VALUES = [0.0, 1.0, np.nan, np.inf, -np.inf]
arrays = st.lists(
    st.tuples(*[st.sampled_from(VALUES)] * 2), min_size=1, max_size=8
).map(np.array)


@given(X=arrays)
def test_rows_are_finite_alike_in_every_layout(X):
    expected = np.isfinite(X).all(axis=1)
    for values in (X, torch.tensor(X), scipy.sparse.csr_array(X)):
        assert finite_rows(values).tolist() == expected.tolist()


@pytest.mark.parametrize(
    "values",
    [np.ones((0, 3)), torch.ones(0, 3), np.ones((2, 3), int), np.ones((2, 0))],
    ids=["no rows", "no rows of a tensor", "integers", "no columns"],
)
def test_rows_without_floats_are_finite(values):
    assert finite_rows(values).tolist() == [True] * len(values)


@given(bad=st.sets(st.integers(0, 5)), as_list=st.booleans())
def test_the_rows_left_are_the_good_ones_and_know_where_they_came_from(bad, as_list):
    X = np.arange(6.0)[:, None]
    values = list(X) if as_list else X
    numbers = np.array(sorted(bad), np.intp)
    checked = without_bad(
        ARRAY, values, numbers, given_rows(X, on_error="nan"), AssertionError
    )
    assert checked.n_samples == 6
    assert checked.bad.tolist() == sorted(bad)
    origin = np.arange(6) if checked.origin is None else checked.origin
    for row in range(6):
        assert (origin[row] < 0) == (row in bad)
        if row not in bad:
            assert checked.values[origin[row]] == row
    assert checked.which_may_run().tolist() == sorted(origin[origin >= 0])


def test_bad_rows_are_refused_unless_they_may_become_nan():
    X = np.array([[1.0], [np.inf], [np.nan]])
    with pytest.raises(ValueError, match="NaN or infinity, first in row 1"):
        without_rows_not_finite(ARRAY, X, given_rows(X))
    assert without_rows_not_finite(
        ARRAY, X, given_rows(X, on_error="nan")
    ).bad.tolist() == [1, 2]
    with_own = given_rows(X, preprocess=np.nan_to_num)
    assert len(without_rows_not_finite(ARRAY, X, with_own).bad) == 0
