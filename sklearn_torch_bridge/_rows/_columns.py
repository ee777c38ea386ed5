"""Mappings of columns, and Datasets, as rows that are taken when they are needed."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch

__all__ = ["Columns", "Items", "as_columns"]

_NUMBERS = "biufc"


class Columns:
    """Equally long arrays or tensors by name: keyword arguments of a model."""

    def __init__(self, columns: Mapping[str, Any]) -> None:
        self.by_name = columns

    def __len__(self) -> int:
        return len(next(iter(self.by_name.values())))

    def __getitem__(self, rows: Any) -> Any:
        """Give one row as a dict, or several as columns."""
        taken = {name: column[rows] for name, column in self.by_name.items()}
        return taken if isinstance(rows, (int, np.integer)) else Columns(taken)


def as_columns(X: Mapping[Any, Any]) -> Columns:
    """Check a mapping of columns."""
    if not X:
        msg = "`X` must have a column, got an empty mapping."
        raise ValueError(msg)
    columns: dict[str, Any] = {}
    for name, given in X.items():
        if not isinstance(name, str):
            msg = f"`X`, where it is a mapping, must have str as keys, got {name!r}."
            raise TypeError(msg)
        if np.ma.is_masked(given):
            msg = (
                f"column {name!r} of `X` has masked values; call .filled(value) first."
            )
            raise ValueError(msg)
        column = _as_column(name, given)
        if not column.ndim or not _holds_numbers(column):
            msg = (
                f"`X`, where it is a mapping, must hold arrays or tensors of numbers "
                f"with one entry a row, but column {name!r} is {_describe(column)}."
            )
            raise TypeError(msg)
        columns[name] = column.detach() if isinstance(column, torch.Tensor) else column
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        msg = f"`X` must have columns of one length, got {lengths}."
        raise ValueError(msg)
    return Columns(columns)


def _as_column(name: str, given: Any) -> Any:
    if isinstance(given, torch.Tensor):
        return given
    try:
        if isinstance(given, (list, tuple)) and _are_tensors(given):
            return torch.stack([entry.detach() for entry in given])
        return np.asarray(given)
    except (RuntimeError, ValueError) as error:
        msg = f"column {name!r} of `X` cannot be made one array: {error}"
        raise ValueError(msg) from error


def _are_tensors(entries: Any) -> bool:
    return len(entries) > 0 and all(isinstance(one, torch.Tensor) for one in entries)


def _holds_numbers(column: Any) -> bool:
    return isinstance(column, torch.Tensor) or column.dtype.kind in _NUMBERS


def _describe(column: Any) -> str:
    return f"of dtype {column.dtype} and shape {tuple(column.shape)}"


class Items:
    """The rows of a Dataset, read when they are needed.

    Of an item that is a tuple or a list the first entry is the row, as PyTorch's
    Datasets give inputs with their targets; with a `preprocess` of the user's own an
    item stays `whole`.
    """

    def __init__(self, dataset: Any, *, whole: bool) -> None:
        self._dataset = dataset
        self._whole = whole
        self._n_rows = len(dataset)  # for one call, whatever is added meanwhile

    def __len__(self) -> int:
        return self._n_rows

    def __iter__(self) -> Iterator[Any]:
        """Yield items to be told apart: of one that cannot be read, its place."""
        for row in range(len(self)):
            try:
                yield self[row]
            except Exception:  # noqa: BLE001 - it is raised when a batch needs it
                yield ("unreadable", row)

    @cached_property
    def first(self) -> Any:
        """Give the first item that can be read, to be looked at."""
        failure: Exception | None = None
        for row in range(len(self)):
            try:
                return self[row]
            except Exception as error:  # noqa: BLE001 - raised if all do
                failure = failure or error
        raise failure or IndexError

    def __getitem__(self, row: int) -> Any:
        item = self._dataset[int(row)]
        if self._whole or not isinstance(item, (tuple, list)) or not len(item):
            return item
        return item[0]
