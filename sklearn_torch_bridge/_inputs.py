"""Any `X` as rows: what it is, and its entries one by one."""

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from scipy.sparse import issparse
from torch.utils.data import DataLoader, Dataset, IterableDataset

from sklearn_torch_bridge._errors import ConversionError
from sklearn_torch_bridge._types import Indices

__all__ = [
    "Kind",
    "as_files",
    "as_ragged",
    "as_rows",
    "as_texts",
    "check_even",
    "distinct_texts",
    "even_rows",
    "find_wrong_rows",
    "find_wrong_texts",
    "is_missing",
    "kind_of",
    "needs_preprocess",
]

Kind = Literal[
    "array",
    "arrays",
    "columns",
    "empty",
    "items",
    "ragged",
    "rows",
    "sparse",
    "tensor",
    "texts",
]

_TWO_AXES = 2
_NUMBERS = "biuf"
_ARRAYS = (np.ndarray, torch.Tensor)
_DOUBLE = 8  # bytes of the widest numbers that torch has


def kind_of(X: Any, *, has_preprocess: bool = False, takes_any: bool = False) -> Kind:
    """Tell how to take `X`: by its type, or by its first row.

    A `preprocess` takes rows of any kind, and before arrays are looked at; where a
    model may bring one, it `takes_any` that no array holds.

    >>> kind_of(["a", "b"]), kind_of([[1, 2]]), kind_of(torch.zeros(2, 3))
    ('texts', 'array', 'tensor')
    """
    if isinstance(X, torch.Tensor):
        return "tensor"
    if issparse(X):  # before mappings: dok is a dict
        return "sparse"
    if isinstance(X, Mapping):
        return "columns"
    if isinstance(X, Dataset):
        _check_dataset(X)
        return "items"
    if isinstance(X, DataLoader):
        msg = (
            "`X` must have rows in any order, got a DataLoader. Give its `dataset`; "
            "`batch_size` and `num_workers` are parameters of the estimator."
        )
        raise TypeError(msg)
    if np.ma.is_masked(X):
        msg = (
            "`X` must have all its values, but some are masked. The mask would be "
            "lost; call .filled(value) first."
        )
        raise ConversionError(msg)
    countable = hasattr(X, "__len__") or hasattr(X, "__array__")
    if isinstance(X, (str, bytes)) or not countable:
        msg = (
            "`X` must be an array, a frame, a tensor, or a sequence with one entry a "
            f"row, got {type(X).__name__}."
        )
        raise TypeError(msg)
    column = _single_column(X) if has_preprocess else _arrays_of(X)
    if column is None or (hasattr(X, "columns") and all(map(_is_plain, column))):
        return "array"  # a frame of numbers, also where all are NaN
    return _kind_of_column(column, has_preprocess, takes_any)


def _check_dataset(X: Any) -> None:
    if isinstance(X, IterableDataset) or not hasattr(X, "__len__"):
        msg = (
            "`X` must have a length and rows in any order, got "
            f"{type(X).__name__}, an iterable Dataset. Give list(X), if it fits in "
            "memory, or a Dataset with `__len__` and `__getitem__`."
        )
        raise TypeError(msg)


def _kind_of_column(column: Any, has_preprocess: bool, takes_any: bool) -> Kind:
    first = next((item for item in column if not is_missing(item)), None)
    all_missing = first is None and len(column) > 0
    if isinstance(first, str):
        return "texts"
    if has_preprocess and (all_missing or not _is_number(first)):
        return "rows"
    if takes_any and (all_missing or _is_almost_text(first)):
        return "texts"
    if isinstance(first, tuple) and first and _is_example(first[0]):
        return "items"
    if _is_array(first):
        return _kind_of_arrays(column, takes_any)
    is_foreign = _is_foreign(first)
    if is_foreign and not takes_any:
        raise TypeError(needs_preprocess(first))
    return "rows" if is_foreign else "array"


def _kind_of_arrays(column: Any, takes_any: bool) -> Kind:
    """Tell arrays of one shape, of different lengths, and otherwise different."""
    shapes = {tuple(row.shape) for row in column if _is_array(row)}
    if len(shapes) == 1:
        return "arrays"
    alike = len({shape[1:] for shape in shapes}) == 1
    return "rows" if takes_any and not alike else "ragged"  # pictures; series


def needs_preprocess(row: Any) -> str:
    """Say that rows are of a kind that a model does not take by itself."""
    return (
        f"`X` holds {type(row).__name__} objects: give a `preprocess` that makes of a "
        "list of them what the model takes, or a model that brings one."
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number, type(None)))


def _is_plain(value: Any) -> bool:
    return isinstance(value, (int, float))


def _is_almost_text(value: Any) -> bool:
    """Tell what users take for a text: bytes, and lists of words."""
    words = isinstance(value, (list, tuple)) and len(value) > 0
    return isinstance(value, bytes) or (words and isinstance(value[0], str))


def _is_example(value: Any) -> bool:
    """Tell the first entry of what a Dataset gives: an input with its target."""
    return (_is_array(value) and value.ndim > 0) or (
        _is_foreign(value) and not isinstance(value, Mapping)
    )


def as_rows(X: Any) -> list[Any]:
    """Return the entries of a list, a Series, an array or a frame of one column."""
    column = _single_column(X)
    return list(X if column is None else column)


def even_rows(X: Any, *, forgiving: bool = False) -> tuple[Any, Indices]:
    """Put rows that are arrays or tensors of one shape into one; tell which are none.

    Those are refused, unless `forgiving`.
    """
    rows = _arrays_of(X)
    model = next(row for row in rows if _is_array(row))
    if isinstance(model, np.ndarray):
        rows = [_as_numbers(row) if _is_list(row) else row for row in rows]
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
    if not isinstance(
        row, torch.Tensor if isinstance(model, torch.Tensor) else _ARRAYS
    ):
        return f"is {_missing_or(row)}"
    if row.shape != model.shape:
        return f"has shape {tuple(row.shape)}, and another {tuple(model.shape)}"
    return _why_not_numbers(row)


def _why_not_numbers(row: Any) -> str | None:
    is_tensor = isinstance(row, torch.Tensor)
    if row.is_complex() if is_tensor else row.dtype.kind not in _NUMBERS:
        return f"is of dtype {row.dtype}"
    return "has masked values" if np.ma.is_masked(row) else None


def check_even(X: Any) -> None:
    """Refuse a list of rows of different length, naming the first odd one."""
    if not isinstance(X, (list, tuple)) or not all(
        hasattr(row, "__len__") for row in X
    ):
        return
    for row, values in enumerate(X):
        if len(values) != len(X[0]):
            msg = (
                f"`X` must have rows of one length, but row 0 has {len(X[0])} and row "
                f"{row} has {len(values)}. Pad them, or give a `preprocess` that does."
            )
            raise ValueError(msg)


def as_ragged(X: Any, *, forgiving: bool = False) -> tuple[list[Any], Indices]:
    """Return arrays or tensors of different lengths, and which rows are none.

    All axes but the first must agree. Rows that do not fit are refused, unless
    `forgiving`.
    """
    rows = _arrays_of(X)
    wrong = [_why_not_ragged(row, rows) for row in rows]
    bad = np.flatnonzero([reason is not None for reason in wrong])
    if len(bad) and not forgiving:
        msg = f"`X` must hold {_RAGGED}, but row {bad[0]} {wrong[bad[0]]}."
        raise (ValueError if _is_array(rows[bad[0]]) else TypeError)(msg)
    return _of_one_kind(rows, bad), bad


def _of_one_kind(rows: list[Any], bad: Indices) -> list[Any]:
    """Give integers among floats, or of several widths, the dtype of all together.

    Otherwise what a row becomes would depend on those that it shares a batch with.
    """
    fits = np.ones(len(rows), bool)
    fits[bad] = False
    dtypes = {_torch_dtype(row) for row, fit in zip(rows, fits, strict=True) if fit}
    if len(dtypes) < _TWO_AXES or all(dtype.is_floating_point for dtype in dtypes):
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
    if not _is_array(row):
        return f"is {_missing_or(row)}"
    model = next(one for one in rows if _is_array(one))
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


def _is_array(value: Any) -> bool:
    return isinstance(value, _ARRAYS)


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or hasattr(value, "to_list")


def as_files(names: Sequence[Any]) -> list[Any]:
    """Make paths of str, so that they are not taken for texts; missing ones stay."""
    return [Path(name) if isinstance(name, str) else name for name in names]


def find_wrong_rows(rows: Sequence[Any]) -> tuple[Indices, str]:
    """Find rows that are missing, or files that are not there; say it of the first."""
    wrong: list[int] = []
    reason = ""
    for row, value in enumerate(rows):
        if is_missing(value):
            why = "is missing"
        elif isinstance(value, os.PathLike) and not os.path.exists(value):  # noqa: PTH110 - any path-like object
            why = f"names a file that is not there: {os.fspath(value)!r}"
        else:
            continue
        reason = reason or f"row {row} of `X` {why}."
        wrong.append(row)
    return np.array(wrong, np.intp), reason


def find_wrong_texts(X: Any) -> Indices:
    """Return the rows that are no str."""
    return np.flatnonzero([not isinstance(text, str) for text in as_rows(X)])


def as_texts(X: Any) -> list[str]:
    """Return the texts of a list, a Series, an array or a frame of one column."""
    texts = as_rows(X)
    wrong = find_wrong_texts(X)
    if len(wrong):
        row, value = wrong[0], texts[wrong[0]]
        missing = is_missing(value)
        msg = (
            f"`X` must hold str in every row, but row {row} is "
            f"{'missing: ' if missing else ''}{value!r}"
            f"{f' ({len(wrong)} such rows)' if len(wrong) > 1 else ''}."
        )
        if missing:
            msg += " Drop or fill missing texts first."
        raise (ValueError if missing else TypeError)(msg)
    return [str(text) for text in texts]


def distinct_texts(texts: Sequence[str]) -> tuple[list[str], Indices | None]:
    """Give each text once, and for each row which of them it is; None if all differ.

    >>> distinct_texts(["a", "b", "a"])
    (['a', 'b'], array([0, 1, 0]))
    """
    first: dict[str, int] = {}
    origin = np.array([first.setdefault(text, len(first)) for text in texts], np.intp)
    return list(first), None if len(first) == len(texts) else origin


def _single_column(X: Any) -> Any:
    """Give the values of a list, a Series, a 1-D array or a one-column frame."""
    if isinstance(X, (list, tuple)):
        return X
    columns = getattr(X, "columns", None)
    if columns is not None:
        return X[columns[0]].to_list() if len(columns) == 1 else None
    if hasattr(X, "to_list"):
        return X.to_list()
    if isinstance(X, np.ndarray) and X.dtype.kind in "OUT":
        if X.ndim == 1:
            return X.tolist()
        if X.ndim == _TWO_AXES and X.shape[1] == 1:
            return X[:, 0].tolist()
    return None


def _arrays_of(X: Any) -> Any:
    """Give the entries as `_single_column` does, lists in a Series or frame as arrays.

    There a row may be a list of numbers; a list of lists is an array itself.
    """
    column = _single_column(X)
    if column is None or isinstance(X, (list, tuple)):
        return column
    return [_as_numbers(entry) if type(entry) is list else entry for entry in column]


def _as_numbers(entry: Any) -> Any:
    """Make an array of a list of numbers, of which some may be missing."""
    try:
        array = np.asarray(entry)
        if array.dtype == object:
            array = array.astype(np.float64)
    except (TypeError, ValueError):  # others, or lists of several lengths
        return entry
    return array if array.dtype.kind in _NUMBERS else entry


def is_missing(value: Any) -> bool:
    """Tell None, NaN and pandas' NA; NaN and NA do not equal themselves."""
    if value is None:
        return True
    if isinstance(value, (float, np.floating)):
        return bool(np.isnan(value))
    return type(value).__name__ in ("NAType", "NaTType")


def _is_foreign(value: Any) -> bool:
    """Tell rows that no array holds: images, paths, dicts."""
    number = isinstance(value, (int, float, complex, np.generic, type(None)))
    sequence = hasattr(value, "__len__") and not isinstance(value, Mapping)
    return not number and not sequence and not hasattr(value, "__array__")
