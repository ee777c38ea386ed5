"""Arrays of one shape, one a row, become one array."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import ColumnTransformer
from torch import nn

from sklearn_torch_bridge import (
    BadRowWarning,
    TorchFeatureExtractor,
)
from sklearn_torch_bridge._rows._stacked import stacked


def test_lists_among_arrays_are_rows_like_them():
    given = [np.ones(2), [3, 4.0], pd.Series([5, 6]), (7, None)]
    rows, bad = stacked(given)
    np.testing.assert_array_equal(rows, [[1, 1], [3, 4], [5, 6], [7, np.nan]])
    assert len(bad) == 0


def as_objects(rows):
    array = np.empty(len(rows), object)
    array[:] = rows
    return array


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (None, "row 1 is missing"),
        ("a", "row 1 is a str"),
        ([1.0, 2.0, 3.0], r"row 1 has shape \(3,\), and another \(2,\)"),
        (np.array(["a", "b"]), "row 1 is of dtype <U1"),
        (np.ones(2) * 1j, "row 1 is of dtype complex128"),
        (np.ma.masked_array([1.0, 2.0], [True, False]), "row 1 has masked values"),
    ],
    ids=["missing", "text", "length", "str", "complex", "masked"],
)
def test_a_row_that_does_not_stack_with_the_others_is_named(row, words):
    with pytest.raises(TypeError, match=words):
        stacked([np.ones(2), row])
    rows, bad = stacked([np.ones(2), row], forgiving=True)
    assert (rows.tolist(), bad.tolist()) == ([[1, 1]], [1])


SAME = {"rtol": 1e-5, "atol": 1e-5}


@pytest.mark.parametrize(
    "dress", [list, pd.Series, as_objects], ids=["list", "Series", "objects"]
)
@pytest.mark.parametrize("make", [np.asarray, torch.tensor], ids=["array", "tensor"])
def test_even_rows_that_are_none_are_bad_rows(make, dress):
    rows = [make([1.0, 2.0]), None, make([3.0, 4.0]), make([np.nan, 1.0]), "a"]
    extractor = TorchFeatureExtractor(nn.Identity(), on_error="nan")
    with pytest.warns(BadRowWarning, match="rows 1, 3, 4 of"):
        Z = extractor.transform(dress(rows))
    nan = [np.nan, np.nan]
    np.testing.assert_array_equal(Z, [[1, 2], nan, [3, 4], nan, nan])


def test_the_entries_of_a_column_are_one_feature_in():
    frame = pd.DataFrame({"q": [np.ones(4)] * 3, "n": [1.0, 2.0, 3.0]})
    extractor = TorchFeatureExtractor(nn.Linear(4, 2)).set_output(transform="pandas")
    columns = ColumnTransformer([("v", extractor, ["q"]), ("p", "passthrough", ["n"])])
    columns.set_output(transform="pandas").fit(frame)
    assert columns.transform(frame).shape == (3, 3)
    assert len(columns.get_feature_names_out()) == 3
    assert columns.named_transformers_["v"].feature_names_in_.tolist() == ["q"]
    with pytest.raises(ValueError, match="feature names should match"):
        columns.named_transformers_["v"].transform(
            frame[["q"]].rename(columns=str.upper)
        )
