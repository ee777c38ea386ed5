"""A mapping of columns: arrays or tensors that are keyword arguments of the model."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sklearn_torch_bridge._convert import (
    hidden_fault,
    iter_faults,
    kept_integers,
    stack,
)
from sklearn_torch_bridge._rows._base import CheckedRows, Feed, Kind, Receiver
from sklearn_torch_bridge._rows._entry_faults import (
    as_row,
    is_array,
    is_finite,
    number_fault,
    shape_of,
)
from sklearn_torch_bridge._rows._given_input import Given, single_column
from sklearn_torch_bridge._rows._missing_or_nan import finite_rows, without_bad
from sklearn_torch_bridge._rows._model_dtype import copied_row
from sklearn_torch_bridge._rows._ragged import group_numbers, of_one_dtype
from sklearn_torch_bridge._rows._rows_axis import check_rows_axis
from sklearn_torch_bridge._types import NUMERIC_KINDS, Inputs, Rows
from sklearn_torch_bridge.models import MASKS, AcceptedInputs, read_mask

__all__ = ["COLUMNS", "Columns", "ColumnsFeed", "as_columns"]

_FIRST_ARGUMENTS = frozenset({"input", "src", "query"})  # of layers of sequences


class _Columns(Kind):
    """Equally long columns by name."""

    name = "columns"

    def recognises(self, given: Given) -> bool:
        return isinstance(given.X, Mapping)

    def check(self, given: Given) -> CheckedRows:
        columns = as_columns(given.X)
        given.check_not_empty(len(columns))
        if given.preprocess is not None or not len(columns):
            return CheckedRows(self, columns, len(columns))
        finite = {
            name: _finite_rows(column)
            for name, column in columns.by_name.items()
            if name not in MASKS  # of floats: -inf is padding
        }
        bad = np.flatnonzero(~np.logical_and.reduce([*finite.values()]))
        return without_bad(self, columns, bad, given, lambda: _not_finite(finite))

    def feed(self, values: Any, receiver: Receiver) -> Feed:
        for name in _FIRST_ARGUMENTS & set(values.by_name):
            check_rows_axis(receiver.loaded.module, _n_axes(values.by_name[name]))
        return ColumnsFeed(values, receiver.accepts)

    def made_up(self, values: Any, receiver: Receiver) -> CheckedRows:
        columns = {name: _zeros(column) for name, column in values.by_name.items()}
        for name in MASKS.keys() & columns:  # all tokens are real
            real = torch.ones(columns[name].shape, dtype=torch.bool)
            columns[name] = MASKS[name].make(real)
        return CheckedRows(self, Columns(columns), 1)


COLUMNS = _Columns()


class Columns:
    """Equally long arrays or tensors by name."""

    def __init__(self, columns: Mapping[str, Any]) -> None:
        self.by_name = columns

    def __len__(self) -> int:
        return len(next(iter(self.by_name.values())))

    @property
    def is_ragged(self) -> bool:
        """Whether rows differ in shape."""
        return any(_is_ragged(column) for column in self.by_name.values())

    def __getitem__(self, rows: Any) -> Any:
        """Return one row as a dict, or several as columns."""
        taken = {name: column[rows] for name, column in self.by_name.items()}
        return taken if isinstance(rows, (int, np.integer)) else Columns(taken)


def as_columns(X: Mapping[Any, Any]) -> Columns:
    """Check a mapping of columns."""
    if not X:
        msg = "`X` must have a column, got an empty mapping."
        raise ValueError(msg)
    columns = {name: _checked_column(name, given) for name, given in X.items()}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        msg = f"`X` must have columns of one length, got {lengths}."
        raise ValueError(msg)
    return Columns(columns)


def _checked_column(name: Any, given: Any) -> Any:
    if not isinstance(name, str):
        msg = f"`X`, where it is a mapping, must have str as keys, got {name!r}."
        raise TypeError(msg)
    whole = hidden_fault(given)
    row, fault = (None, whole) if whole else next(iter_faults(given), (None, None))
    if fault is not None:
        where = "" if row is None else f"row {row} of "
        what = f"{where}column {name!r} of `X` {fault}"
        msg = f"{what}; call .filled(value) first, or load its values."
        raise ValueError(msg)
    column = _as_column(name, given)
    if _is_ragged(column):
        return _checked_entries(name, column)
    is_tensor = isinstance(column, torch.Tensor)
    if not column.ndim or not (is_tensor or column.dtype.kind in NUMERIC_KINDS):
        msg = (
            "`X`, where it is a mapping, must hold arrays or tensors of numbers with "
            f"one entry a row, but column {name!r} is of dtype {column.dtype} and "
            f"shape {tuple(column.shape)}."
        )
        raise TypeError(msg)
    return column.detach() if is_tensor else column


def _as_column(name: str, given: Any) -> Any:
    if isinstance(given, torch.Tensor):
        return given
    rows = single_column(given)
    if rows is not None and len({shape_of(row) for row in rows}) > 1:
        return _entries([as_row(row) for row in rows])
    column = given if rows is None else rows
    try:
        if rows is not None and _are_tensors(rows):
            if len({entry.dtype for entry in rows}) > 1:
                return stack(rows, None)  # which rounds no integers
            return torch.stack([entry.detach() for entry in rows])
        array = np.asarray(column)
        return kept_integers(column, array, array)
    except (RuntimeError, TypeError, ValueError) as error:
        msg = f"column {name!r} of `X` cannot be made one array: {error}"
        raise ValueError(msg) from error


def _entries(values: Sequence[Any]) -> NDArray[Any]:
    """Put arrays into an array of objects, whatever their shapes."""
    column = np.empty(len(values), object)
    for row, value in enumerate(values):
        column[row] = value
    return column


def _is_ragged(column: Any) -> bool:
    """Return whether the entries of a column are arrays of several shapes."""
    return (
        isinstance(column, np.ndarray)
        and column.dtype == object
        and any(map(is_array, column))
    )


def _checked_entries(name: str, column: NDArray[Any]) -> NDArray[Any]:
    """Check the arrays of a column, and give them one dtype."""
    n_axes = next(entry.ndim for entry in column if is_array(entry))
    for row, entry in enumerate(column):
        fault = number_fault(entry)
        if fault is None and (entry.ndim != n_axes or 0 in entry.shape):
            fault = f"has shape {tuple(entry.shape)}"
        if fault is not None:
            msg = (
                "`X`, where it is a mapping, must hold arrays of numbers with as many "
                "axes each, and an entry or more, but row "
                f"{row} of column {name!r} {fault}."
            )
            raise TypeError(msg)
    return _entries(of_one_dtype(list(column)))


def _are_tensors(entries: Any) -> bool:
    return len(entries) > 0 and all(isinstance(one, torch.Tensor) for one in entries)


def _finite_rows(column: Any) -> NDArray[np.bool_]:
    if _is_ragged(column):
        return np.array([is_finite(entry) for entry in column])
    return finite_rows(column)


def _not_finite(finite: Mapping[str, NDArray[np.bool_]]) -> ValueError:
    name, rows = next(named for named in finite.items() if not named[1].all())
    row = int(np.argmin(rows))
    msg = f"`X` must be finite, but row {row} of column {name!r} has NaN or infinity."
    return ValueError(msg)


def _n_axes(column: Any) -> int:
    return 1 + int(column[0].ndim) if _is_ragged(column) else int(column.ndim)


def _zeros(column: Any) -> Any:
    shape = (1, *column.shape[1:])
    if isinstance(column, torch.Tensor):
        return column.new_zeros(shape)
    return np.zeros(shape, column.dtype)


class ColumnsFeed(Feed):
    """Columns as keyword arguments; the mask among them says which tokens are real.

    Rows whose entries differ in shape share no batch.
    """

    def __init__(self, columns: Columns, accepts: AcceptedInputs) -> None:
        self._as_one = accepts.takes_one_mapping(columns.by_name)
        names = None if self._as_one else accepts.names
        taken = columns.by_name if names is None else names
        unknown = [name for name in columns.by_name if name not in taken]
        if unknown:
            msg = (
                f"`X` has the column {unknown[0]!r}, and `model` takes "
                f"{', '.join(map(repr, accepts.parameters))}."
            )
            raise ValueError(msg)
        sizes = [math.prod(one.shape[1:]) for one in columns.by_name.values()]
        self.row_size = sum(sizes)
        ragged = [one for one in columns.by_name.values() if _is_ragged(one)]
        if ragged:
            shapes = [tuple(map(_shape, row)) for row in zip(*ragged, strict=True)]
            self.groups = group_numbers(shapes)
            self.lengths = np.array([sum(map(math.prod, row)) for row in shapes])
            self.row_size += int(self.lengths.max())
        self._columns = columns
        self._dtype = accepts.dtype

    def __len__(self) -> int:
        return len(self._columns)

    def batch(self, rows: Rows) -> Inputs:
        """Copy these rows of each column, floats in the dtype of the model."""
        taken = self._columns[rows].by_name
        kwargs = {name: self._copied(values) for name, values in taken.items()}
        if self._as_one:
            return Inputs(args=(kwargs,), mask=read_mask(kwargs))
        return Inputs(kwargs=kwargs, mask=read_mask(kwargs))

    def _copied(self, values: Any) -> torch.Tensor:
        if not _is_ragged(values):
            return copied_row(values, self._dtype)
        return torch.stack([copied_row(entry, self._dtype) for entry in values])


def _shape(entry: Any) -> tuple[int, ...]:
    return tuple(entry.shape)
