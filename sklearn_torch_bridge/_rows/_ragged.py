"""Arrays that differ in shape: padded to one length where the model takes a mask."""

import functools
import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sklearn_torch_bridge._convert import digits, find_rounded, rounded_error
from sklearn_torch_bridge._row_numbers import as_indices
from sklearn_torch_bridge._rows._base import (
    CheckedRows,
    Feed,
    FeedError,
    Kind,
    Receiver,
)
from sklearn_torch_bridge._rows._entry_faults import (
    as_row,
    is_array,
    is_finite,
    number_fault,
    shape_of,
)
from sklearn_torch_bridge._rows._given_input import Given
from sklearn_torch_bridge._rows._missing_or_nan import without_bad
from sklearn_torch_bridge._rows._model_dtype import copied_row
from sklearn_torch_bridge._rows._rows_axis import check_rows_axis
from sklearn_torch_bridge._rows._windows import value_spans
from sklearn_torch_bridge._types import Inputs, Rows
from sklearn_torch_bridge.models import MASKS, AcceptedInputs, Maximum, check_length

__all__ = ["RAGGED", "RaggedFeed", "group_numbers", "of_one_dtype"]

_DOUBLE = 8  # bytes of the widest numbers that torch has
_INTEGERS = "holds_integers"
_RAGGED = "arrays of finite numbers, with as many axes each, and an entry or more"


class _Ragged(Kind):
    """Arrays, tensors or lists of numbers, of several shapes."""

    name = "arrays of different lengths"
    has_arrays = True
    differs_in_shape = True

    def recognises(self, given: Given) -> bool:
        if is_array(given.first):
            return True
        rows, shape = given.entries, shape_of(given.first)
        if shape is None:
            return False
        if given.is_of_lengths and len(shape):  # also where all have one
            return True
        if len(shape) == 1 and {*map(type, rows)} <= {list, tuple}:  # a table, mostly
            return len({*map(len, rows)}) > 1
        return len(given.shapes) > 1

    def check(self, given: Given) -> CheckedRows:
        given.check_frame()
        rows = [as_row(row) for row in given.entries]
        usual = _usual_shape(rows)
        faults = [_fault(row, usual) for row in rows]
        bad = np.flatnonzero([fault is not None for fault in faults])

        def error() -> Exception:
            first = bad[0]
            msg = f"`X` must hold {_RAGGED}, but row {first} {faults[first]}."
            return (ValueError if is_array(rows[first]) else TypeError)(msg)

        checked = without_bad(self, rows, bad, given, error)
        return replace(checked, values=of_one_dtype(checked.values))

    def feed(self, values: Any, receiver: Receiver) -> Feed:
        check_rows_axis(receiver.loaded.module, values[0].ndim + 1)
        maximum = check_length(receiver.max_length, None, unit="values")
        windows = receiver.windows
        longest = max(len(row) for row in values)
        if maximum is None or windows is None or longest <= maximum.n > windows.overlap:
            return RaggedFeed(values, receiver.accepts, maximum)
        lengths = np.array([len(row) for row in values])
        spans = value_spans(lengths, maximum.n, windows.overlap)
        pairs = zip(spans.rows, spans.starts, spans.stops, strict=True)
        parts = [_part(values[row], start, stop) for row, start, stop in pairs]
        feed = RaggedFeed(parts, receiver.accepts)
        feed.spans = spans
        feed.maximum = maximum
        return feed


RAGGED = _Ragged()


def _usual_shape(rows: Sequence[Any]) -> tuple[int, ...]:
    """Return the first shape with as many axes as most rows have."""
    shapes = [tuple(row.shape) for row in rows if is_array(row)]
    (n_axes, _), *_ = Counter(map(len, shapes)).most_common(1) or [(0, 0)]
    return next((shape for shape in shapes if len(shape) == n_axes), ())


def _fault(row: Any, usual: tuple[int, ...]) -> str | None:
    """Return why a row is no array with the axes of the others."""
    if is_array(row) and (row.ndim != len(usual) or not row.ndim or 0 in row.shape):
        return f"has shape {tuple(row.shape)}, and another {usual}"
    fault = number_fault(row)
    if fault is None and not is_finite(row):
        return "has NaN or infinity"
    return fault


def of_one_dtype(rows: list[Any]) -> list[Any]:
    """Convert integers among floats, or of several widths, to one dtype for all.

    Otherwise what a row becomes would depend on those that it shares a batch with.
    """
    dtypes = {_torch_dtype(row) for row in rows}
    if len(dtypes) <= 1 or all(dtype.is_floating_point for dtype in dtypes):
        return rows
    common = functools.reduce(torch.promote_types, dtypes)
    if common.is_floating_point:
        common = torch.float64  # which holds integers that a shorter float rounds
        for place, row in enumerate(rows):
            _check_digits(place, row)
    converted = [_as_tensor(row).to(common) for row in rows]
    for row, own in zip(rows, converted, strict=True):
        if common.is_floating_point and not _torch_dtype(row).is_floating_point:
            vars(own)[_INTEGERS] = True  # which no shorter float may round
    return converted


def _check_digits(place: int, row: Any) -> None:
    """Refuse integers that float64 would round."""
    values = row.cpu().numpy() if isinstance(row, torch.Tensor) else row
    if values.dtype.kind not in "iu":
        return
    lost = find_rounded(values, digits(np.dtype(np.float64)))
    if lost is not None:
        raise rounded_error(place, values.reshape(-1)[lost], torch.float64)


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


def _part(row: Any, start: int, stop: int) -> Any:
    """Return some entries of a row, of which nothing that is noted is lost."""
    part = row[start:stop]
    if isinstance(row, torch.Tensor):
        vars(part).update(vars(row))
    return part


def _are_ids(row: Any) -> bool:
    """Return whether a row is one integer a token."""
    dtype = _torch_dtype(row)
    is_integer = not dtype.is_floating_point and dtype != torch.bool
    return row.ndim == 1 and is_integer


def group_numbers(kinds: Sequence[Hashable]) -> NDArray[np.intp]:
    """Give equal entries one number.

    >>> group_numbers(["a", "b", "a"])
    array([0, 1, 0])
    """
    first: dict[Hashable, int] = {}
    return np.array([first.setdefault(kind, len(first)) for kind in kinds], np.intp)


@functools.cache
def _held(value: float, dtype: torch.dtype) -> float:
    """Return the value nearest to one that a dtype may lack: e8m0 has no zero."""
    return value or torch.zeros((), dtype=torch.float32).to(dtype).item()


class RaggedFeed(Feed):
    """Arrays of different shapes, padded where the model takes a mask.

    Ids are padded with that of padding, other entries with zeros, along the first axis
    alone. Where the forward has no parameter for a mask, padding would change what the
    real entries give: there only rows of one shape share a batch.
    """

    lengths_are_exact = True
    keeps_shape = True

    def __init__(
        self,
        rows: Sequence[Any],
        accepts: AcceptedInputs,
        maximum: Maximum | None = None,
    ) -> None:
        shapes = [tuple(row.shape) for row in rows]
        self.maximum = maximum
        self._longest = None if maximum is None else maximum.n
        if maximum is not None:
            self.full_lengths = np.array([shape[0] for shape in shapes])
            shapes = [(min(first, maximum.n), *rest) for first, *rest in shapes]
        self.even = accepts.mask is None
        self.lengths = np.array([shape[0] for shape in shapes])
        if len({shape[1:] for shape in shapes}) > 1:
            same = shapes if self.even else [shape[1:] for shape in shapes]
            self.groups = group_numbers(same)
            self.lengths = np.array([math.prod(shape) for shape in shapes])
            self.row_size = int(self.lengths.max())
        self._rows = rows
        self._mask_name = accepts.mask
        self._dtype = accepts.dtype
        self._padding = accepts.padding_id if _are_ids(rows[0]) else 0

    @property
    def padded_by(self) -> str | None:
        """The name of what pads: the feed itself, but for the rows of one array."""
        return type(self).__name__ if isinstance(self._rows, list) else None

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, rows: Rows) -> Inputs:
        """Copy these rows into one tensor as long as the longest of them."""
        own = [self._copied(row) for row in as_indices(rows)]
        padding = _held(self._padding, own[0].dtype)
        padded = nn.utils.rnn.pad_sequence(own, batch_first=True, padding_value=padding)
        if self._mask_name is None:
            return Inputs(args=(padded,))
        lengths = torch.tensor([len(row) for row in own], device=padded.device)
        steps = torch.arange(padded.shape[1], device=padded.device)
        mask = steps < lengths[:, None]
        given_mask = MASKS[self._mask_name].make(mask)
        return Inputs((padded,), {self._mask_name: given_mask}, mask)

    def _copied(self, row: int) -> torch.Tensor:
        """Return a row in the dtype of the model, which must hold its integers."""
        given = self._rows[row]
        kept = given[: self._longest]
        own = copied_row(kept, self._dtype)
        if isinstance(given, torch.Tensor) and hasattr(given, _INTEGERS):
            lost = own.double() != kept
            if bool(lost.any()):
                value, dtype = int(kept[lost][0]), self._dtype
                raise FeedError(
                    np.array([row]),
                    lambda named: rounded_error(
                        named.rpartition("row ")[2], value, dtype
                    ),
                )
        return own
