"""`X` as it was given: its entries, and what has no rows at all."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from sklearn_torch_bridge import ConversionError
from sklearn_torch_bridge._rows._given_input import as_entries
from tests.rows import given_rows


@pytest.mark.parametrize(
    "X",
    [["a", None], ("a", None), np.array(["a", None], object), pd.Series(["a", None])],
    ids=["list", "tuple", "array", "Series"],
)
def test_entries_stay_as_they_are(X):
    assert as_entries(X)[0] == "a"
    assert given_rows(X).first == "a"
    assert not given_rows(X).all_missing


def test_lists_in_a_column_are_arrays_and_lists_of_lists_are_not():
    column = given_rows(pl.Series([[1, 2], [3]])).entries
    assert [entry.tolist() for entry in column] == [[1, 2], [3]]
    assert given_rows([[1, 2], [3]]).entries == [[1, 2], [3]]


def test_a_frame_of_numbers_has_no_entries():
    assert given_rows(pd.DataFrame({"a": [1.0, None]})).entries is None
    assert given_rows(pd.DataFrame({"a": [1], "b": [2]})).entries is None


class Endless(IterableDataset):
    def __iter__(self):
        yield torch.ones(1)


@pytest.mark.parametrize(
    ("X", "error", "words"),
    [
        ("text", TypeError, "got str"),
        (iter("ab"), TypeError, "one entry a row, got str_"),
        (Endless(), TypeError, "Endless, an iterable Dataset"),
        (DataLoader(TensorDataset(torch.ones(2))), TypeError, "Give its `dataset`"),
        (np.ma.masked_array([1.0], [True]), ConversionError, "some are masked"),
    ],
    ids=["str", "iterator", "iterable", "loader", "masked"],
)
def test_what_has_no_rows_in_any_order_is_refused(X, error, words):
    with pytest.raises(error, match=words):
        given_rows(X).check_usable()
