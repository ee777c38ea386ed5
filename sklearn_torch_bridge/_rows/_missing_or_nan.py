"""Rows that no model could take: refused by name, or left out to become NaN."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse

from sklearn_torch_bridge._rows._base import CheckedRows, Kind, n_rows
from sklearn_torch_bridge._rows._entry_faults import as_wide
from sklearn_torch_bridge._rows._given_input import Given
from sklearn_torch_bridge._types import Indices

__all__ = ["finite_rows", "without_bad", "without_rows_not_finite"]


def without_bad(
    kind: Kind, values: Any, bad: Indices, given: Given, error: Callable[[], Exception]
) -> CheckedRows:
    """Refuse bad rows by `error`, or leave them out.

    They are taken out of a list; of an array, that would copy all others.
    """
    n_samples = n_rows(values)
    if not len(bad):
        return CheckedRows(kind, values, n_samples)
    if not given.forgiving:
        raise error()
    why = str(error()) or CheckedRows.why_bad
    good = np.ones(n_samples, bool)
    good[bad] = False
    if not isinstance(values, list):
        origin = np.where(good, np.arange(n_samples), -1)
        return CheckedRows(kind, values, n_samples, origin, bad, why)
    origin = np.where(good, np.cumsum(good) - 1, -1)
    kept = [value for value, keep in zip(values, good, strict=True) if keep]
    return CheckedRows(kind, kept, n_samples, origin, bad, why)


def without_rows_not_finite(kind: Kind, values: Any, given: Given) -> CheckedRows:
    """Refuse rows that are not finite, or leave them out; a `preprocess` may take any.

    >>> finite_rows(np.array([[1.0], [np.nan]]))
    array([ True, False])
    """
    if given.preprocess is not None:
        return CheckedRows(kind, values, n_rows(values))
    bad = np.flatnonzero(~finite_rows(values))
    return without_bad(kind, values, bad, given, lambda: _not_finite(bad[0]))


def _not_finite(row: int) -> ValueError:
    msg = f"Input X contains NaN or infinity, first in row {row}."
    return ValueError(msg)


def finite_rows(values: Any) -> NDArray[np.bool_]:
    """Return which rows of an array, a tensor or a CSR matrix are finite."""
    if issparse(values):
        finite = np.ones(values.shape[0], bool)
        rows = np.repeat(np.arange(values.shape[0]), np.diff(values.indptr))
        finite[rows[~np.isfinite(values.data)]] = False
        return finite
    if isinstance(values, torch.Tensor):
        found = torch.isfinite(as_wide(values))
        if bool(found.all()):
            return np.ones(len(values), bool)
        per_row: NDArray[np.bool_] = found.reshape(len(values), -1).all(1).cpu().numpy()
        return per_row
    if values.dtype.kind not in "fc":
        return np.ones(len(values), bool)
    of_rows: NDArray[np.bool_] = np.isfinite(values).all(tuple(range(1, values.ndim)))
    return of_rows
