"""SciPy's sparse matrices and arrays, dense for one batch at a time."""

from typing import Any

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.utils.validation import validate_data

from sklearn_torch_bridge._convert import check_indices, to_tensor
from sklearn_torch_bridge._rows._arrays import ARRAY
from sklearn_torch_bridge._rows._base import CheckedRows, Feed, Kind, Receiver
from sklearn_torch_bridge._rows._given_input import Given
from sklearn_torch_bridge._rows._missing_or_nan import finite_rows, without_bad
from sklearn_torch_bridge._types import Inputs, Rows

__all__ = ["SPARSE", "SparseFeed"]


class _Sparse(Kind):
    """A sparse matrix of numbers."""

    name = "a sparse matrix"

    def recognises(self, given: Given) -> bool:
        return bool(issparse(given.X))

    def check(self, given: Given) -> CheckedRows:
        check_indices(given.X)
        matrix: Any = validate_data(
            given.estimator,
            given.X,
            reset=given.reset,
            accept_sparse="csr",
            dtype="numeric",
            ensure_all_finite=not given.forgiving,
            ensure_min_samples=1 if given.reset else 0,
        )
        if not given.forgiving:
            return CheckedRows(self, matrix, matrix.shape[0])
        bad = np.flatnonzero(~finite_rows(matrix))
        # `given` forgives bad rows: no error is asked for.
        return without_bad(self, matrix, bad, given, ValueError)

    def feed(self, values: Any, receiver: Receiver) -> Feed:
        return SparseFeed(values, receiver.accepts.dtype)

    def made_up(self, values: Any, receiver: Receiver) -> CheckedRows:
        return CheckedRows(ARRAY, np.zeros((1, values.shape[1]), values.dtype), 1)


SPARSE = _Sparse()


class SparseFeed(Feed):
    """The rows of a sparse matrix, dense for one batch at a time."""

    def __init__(self, matrix: Any, dtype: torch.dtype) -> None:
        self.row_size = matrix.shape[1]
        self._matrix = matrix
        self._dtype = dtype

    def __len__(self) -> int:
        n_rows: int = self._matrix.shape[0]
        return n_rows

    def batch(self, rows: Rows) -> Inputs:
        """Make an array of these rows, floats in the dtype of the model."""
        return Inputs((to_tensor(self._matrix[rows].toarray(), dtype=self._dtype),))
