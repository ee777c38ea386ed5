"""Rows that are arrays or tensors: those of one shape as one, others of one dtype."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from sklearn_torch_bridge._rows._inputs import (
    ARRAYS,
    NUMBERS,
    arrays_of,
    as_numbers,
    is_array,
    is_missing,
)
from sklearn_torch_bridge._types import Indices

__all__ = ["as_ragged", "even_rows"]

_DOUBLE = 8  # bytes of the widest numbers that torch has


def even_rows(X: Any, *, forgiving: bool = False) -> tuple[Any, Indices]:
    """Put rows that are arrays or tensors of one shape into one; tell which are none.

    Those are refused, unless `forgiving`.
    """
    rows = arrays_of(X)
    model = next(row for row in rows if is_array(row))
    if isinstance(model, np.ndarray):
        rows = [as_numbers(row) if _is_list(row) else row for row in rows]
    wrong = [_why_not_like(row, model) for row in rows]
    bad = np.flatnonzero([reason is not None for reason in wrong])
    if len(bad) and not forgiving:
        name = "tensors" if isinstance(model, torch.Tensor) else "arrays"
        msg = f"`X` must hold {name} in every row, but row {bad[0]} {wrong[bad[0]]}."
        raise TypeError(msg)
    good = [row for row, reason in zip(rows, wrong, strict=True) if reason is None]
    if isinstance(model, torch.Tensor):
        return torch.stack([tensor.detach() for tensor in good]), bad
    return np.stack([np.asarray(row) for row in good]), bad


def _why_not_like(row: Any, model: Any) -> str | None:
    """Say why a row does not stack with `model`; None if it does."""
    kinds = torch.Tensor if isinstance(model, torch.Tensor) else ARRAYS
    if not isinstance(row, kinds):
        return f"is {_missing_or(row)}"
    if row.shape != model.shape:
        return f"has shape {tuple(row.shape)}, and another {tuple(model.shape)}"
    return _why_not_numbers(row)


def _why_not_numbers(row: Any) -> str | None:
    is_tensor = isinstance(row, torch.Tensor)
    if row.is_complex() if is_tensor else row.dtype.kind not in NUMBERS:
        return f"is of dtype {row.dtype}"
    return "has masked values" if np.ma.is_masked(row) else None


def as_ragged(X: Any, *, forgiving: bool = False) -> tuple[list[Any], Indices]:
    """Return arrays or tensors of different lengths, and which rows are none.

    All axes but the first must agree. Rows that do not fit are refused, unless
    `forgiving`.
    """
    rows = arrays_of(X)
    wrong = [_why_not_ragged(row, rows) for row in rows]
    bad = np.flatnonzero([reason is not None for reason in wrong])
    if len(bad) and not forgiving:
        msg = f"`X` must hold {_RAGGED}, but row {bad[0]} {wrong[bad[0]]}."
        raise (ValueError if is_array(rows[bad[0]]) else TypeError)(msg)
    return _of_one_kind(rows, bad), bad


def _of_one_kind(rows: list[Any], bad: Indices) -> list[Any]:
    """Give integers among floats, or of several widths, the dtype of all together.

    Otherwise what a row becomes would depend on those that it shares a batch with.
    """
    fits = np.ones(len(rows), bool)
    fits[bad] = False
    dtypes = {_torch_dtype(row) for row, fit in zip(rows, fits, strict=True) if fit}
    if len(dtypes) == 1 or all(dtype.is_floating_point for dtype in dtypes):
        return rows
    common = functools.reduce(torch.promote_types, dtypes)
    if common.is_floating_point:
        common = torch.float64  # which holds integers that a shorter float rounds
    return [
        _as_tensor(row).to(common) if fit else row
        for row, fit in zip(rows, fits, strict=True)
    ]


def _torch_dtype(row: Any) -> torch.dtype:
    if isinstance(row, torch.Tensor):
        return row.dtype
    kind, n_bytes = row.dtype.kind, row.dtype.itemsize
    if kind == "f" and n_bytes > _DOUBLE:
        return torch.float64
    if kind == "u" and 1 < n_bytes < _DOUBLE:  # torch does not promote them
        return torch.int64
    return _as_tensor(row[:0]).dtype


def _as_tensor(row: Any) -> torch.Tensor:
    """Copy an array, of which torch takes neither every order nor every byte order."""
    if isinstance(row, torch.Tensor):
        return row
    dtype = row.dtype.newbyteorder("=")
    is_long = dtype.kind == "f" and dtype.itemsize > _DOUBLE
    return torch.from_numpy(np.array(row, np.float64 if is_long else dtype))


_RAGGED = "arrays of finite numbers that differ in length alone, with an entry or more"


def _why_not_ragged(row: Any, rows: Sequence[Any]) -> str | None:
    if not is_array(row):
        return f"is {_missing_or(row)}"
    model = next(one for one in rows if is_array(one))
    if row.ndim == 0 or row.shape[1:] != model.shape[1:] or row.shape[0] == 0:
        return f"has shape {tuple(row.shape)}, and another {tuple(model.shape)}"
    reason = _why_not_numbers(row)
    if reason is None and not _is_finite(row):
        return "has NaN or infinity"
    return reason


def _is_finite(row: Any) -> bool:
    if isinstance(row, torch.Tensor):
        tiny = row.is_floating_point() and row.element_size() == 1  # has no isfinite
        return bool(torch.isfinite(row.float() if tiny else row).all())
    return bool(np.isfinite(row).all())


def _missing_or(value: Any) -> str:
    return "missing" if is_missing(value) else f"a {type(value).__name__}"


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or hasattr(value, "to_list")
