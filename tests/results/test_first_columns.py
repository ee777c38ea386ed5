"""The first columns of pieces of every kind."""

import numpy as np
import pytest
import torch

from sklearn_torch_bridge._results import FirstColumns
from sklearn_torch_bridge._types import Tokens

VALUES = np.array([[3.0, 4.0, 5.0], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize(
    ("piece", "dtype"),
    [
        (torch.tensor(VALUES), torch.float64),
        (torch.tensor(VALUES).half(), torch.float32),
        (torch.tensor(VALUES).bfloat16(), torch.float32),
        (torch.tensor(VALUES).int(), torch.float64),
        (torch.tensor(VALUES) * 1j, torch.complex128),
        (VALUES, np.float64),
        (VALUES.astype(np.float16), np.float32),
    ],
    ids=["tensor", "half", "bfloat16", "integers", "complex", "array", "half array"],
)
def test_rows_have_length_1_again_and_those_of_zeros_stay(piece, dtype):
    (kept,) = FirstColumns(2, normalizes=True)([piece])
    np.testing.assert_allclose(np.abs(np.asarray(kept)), [[0.6, 0.8], [0, 0]], 1e-6)
    assert kept.dtype == dtype


def test_tokens_are_made_narrower_each():
    values, lists = torch.arange(12.0).reshape(4, 3), [VALUES, VALUES[:1]]
    tokens, entries = FirstColumns(2)([Tokens(values, [1, 3]), lists])
    assert tokens.values.tolist() == values[:, :2].tolist()
    assert tokens.lengths == [1, 3]
    assert [entry.shape for entry in entries] == [(2, 2), (1, 2)]


def test_more_columns_than_there_are_is_an_error():
    with pytest.raises(ValueError, match=r"width of `Z`, 3, got 4\."):
        FirstColumns(4)([VALUES])
    with pytest.raises(ValueError, match=r"`Z`, 3 of layer 'b', got 5\."):
        FirstColumns(5, layers=("a", "b"))([np.ones((1, 6)), VALUES])


def test_maps_have_no_columns():
    with pytest.raises(ValueError, match=r"rows of shape \(4, 5, 6\)\. Name a"):
        FirstColumns(2)([torch.zeros(3, 4, 5, 6)])
