"""Any `X` as rows: what it is, and its entries one by one."""

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
    "ARRAYS",
    "NUMBERS",
    "Kind",
    "arrays_of",
    "as_files",
    "as_numbers",
    "as_rows",
    "as_texts",
    "check_even",
    "distinct_texts",
    "find_wrong_rows",
    "find_wrong_texts",
    "is_array",
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
NUMBERS = "biuf"
ARRAYS = (np.ndarray, torch.Tensor)


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
    column = _single_column(X) if has_preprocess else arrays_of(X)
    if column is None or (hasattr(X, "columns") and all(map(_is_number, column))):
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
    if is_array(first):
        return _kind_of_arrays(column, takes_any)
    is_foreign = _is_foreign(first)
    if is_foreign and not takes_any:
        raise TypeError(needs_preprocess(first))
    return "rows" if is_foreign else "array"


def _kind_of_arrays(column: Any, takes_any: bool) -> Kind:
    """Tell arrays of one shape, of different lengths, and otherwise different."""
    shapes = {tuple(row.shape) for row in column if is_array(row)}
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
    return isinstance(value, (int, float, np.number))


def _is_almost_text(value: Any) -> bool:
    """Tell what users take for a text: bytes, and lists of words."""
    words = isinstance(value, (list, tuple)) and len(value) > 0
    return isinstance(value, bytes) or (words and isinstance(value[0], str))


def _is_example(value: Any) -> bool:
    """Tell the first entry of what a Dataset gives: an input with its target."""
    return (is_array(value) and value.ndim > 0) or (
        _is_foreign(value) and not isinstance(value, Mapping)
    )


def as_rows(X: Any) -> list[Any]:
    """Return the entries of a list, a Series, an array or a frame of one column."""
    column = _single_column(X)
    return list(X if column is None else column)


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


def is_array(value: Any) -> bool:
    """Tell arrays and tensors."""
    return isinstance(value, ARRAYS)


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


def arrays_of(X: Any) -> Any:
    """Give the entries of what has one a row, lists in a Series or frame as arrays.

    There a row may be a list of numbers; a list of lists is an array itself. None of
    what has several columns.
    """
    column = _single_column(X)
    if column is None or isinstance(X, (list, tuple)):
        return column
    return [as_numbers(entry) if type(entry) is list else entry for entry in column]


def as_numbers(entry: Any) -> Any:
    """Make an array of a list of numbers, of which some may be missing."""
    try:
        array = np.asarray(entry)
        if array.dtype == object:
            array = array.astype(np.float64)
    except (TypeError, ValueError):  # others, or lists of several lengths
        return entry
    return array if array.dtype.kind in NUMBERS else entry


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
