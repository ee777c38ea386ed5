"""One numeric array or frame: its first axis is the rows'."""

import math
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_array

from sklearn_torch_bridge._convert import (
    integers_among,
    is_same_float,
    rounded_error,
    to_tensor,
)
from sklearn_torch_bridge._errors import ConversionError
from sklearn_torch_bridge._pinned_memory import is_staged, pinned
from sklearn_torch_bridge._row_numbers import as_indices
from sklearn_torch_bridge._rows._base import (
    CheckedRows,
    Feed,
    FeedError,
    Kind,
    Receiver,
)
from sklearn_torch_bridge._rows._given_input import Given
from sklearn_torch_bridge._rows._missing_or_nan import without_rows_not_finite
from sklearn_torch_bridge._rows._model_dtype import overflow
from sklearn_torch_bridge._rows._ragged import RaggedFeed
from sklearn_torch_bridge._rows._rows_axis import check_rows_axis
from sklearn_torch_bridge._tensor_bytes import Memory, fresh
from sklearn_torch_bridge._types import REAL_KINDS, Inputs, Rows

__all__ = ["ARRAY", "ArrayFeed"]

_TWO_AXES = 2
_FLOATS = frozenset({np.dtype(np.float32), np.dtype(np.float64)})
_CHEAP_BYTES = 1 << 20  # below, the allocator reuses memory by itself
_UNSHARED = 2  # references to an array: the attribute, and the argument of getrefcount


class _Array(Kind):
    """What scikit-learn's `check_array` takes; the last of the table."""

    name = "an array"
    has_arrays = True

    def __init__(self, integers: NDArray[np.bool_] | None = None) -> None:
        self._integers = integers

    def recognises(self, given: Given) -> bool:
        return True

    def check(self, given: Given) -> CheckedRows:
        if not given.reset and _is_surely_right(given.estimator, given.X):
            return CheckedRows(self, given.X, len(given.X))
        _check_plain(given.X)
        _check_even(given.X)
        given.check_frame()
        return self.check_array(given, given.X, counts=not hasattr(given.X, "columns"))

    def check_array(
        self, given: Given, X: Any, *, counts: bool, rows: Any = None
    ) -> CheckedRows:
        """Check a numeric array of two axes or more; its dtype stays.

        The estimator `counts` its columns, unless those are the entries of one column.
        `rows` are what it was made of, where that was of several dtypes.
        """
        with _tensors_named():
            array: NDArray[Any] = check_array(
                X,
                dtype="numeric",
                allow_nd=True,
                ensure_all_finite=given.preprocess is None and not given.forgiving,
                ensure_min_samples=1 if given.reset else 0,
                estimator=given.estimator,
                input_name="X",
            )
        if array.dtype.kind not in REAL_KINDS and given.preprocess is None:
            msg = f"`X` must hold numbers, got dtype {array.dtype}."
            raise ConversionError(msg)
        if array.ndim == _TWO_AXES and counts:
            given.check_width(array)
        integers = integers_among(X if rows is None else rows, array)
        kind = self if integers is None else _Array(integers)
        if not given.forgiving:  # it was checked above
            return CheckedRows(kind, array, len(array))
        return without_rows_not_finite(kind, array, given)

    def feed(self, values: Any, receiver: Receiver) -> Feed:
        check_rows_axis(receiver.loaded.module, values.ndim)
        accepts, device = receiver.accepts, receiver.device
        if accepts.needs_mask:
            return RaggedFeed(values, accepts)
        # Compiled code may ask of its inputs what a part of an array does not give.
        shared = device.type == "cpu" and not receiver.compiles and accepts.only_reads
        memory = pinned if is_staged(device) else None
        integers = self._integers
        return ArrayFeed(values, accepts.dtype, memory, integers, only_read=shared)

    def made_up(self, values: Any, receiver: Receiver) -> CheckedRows:
        return CheckedRows(self, np.zeros((1, *values.shape[1:]), values.dtype), 1)


ARRAY = _Array()


@contextmanager
def _tensors_named() -> Iterator[None]:
    """Say of a tensor inside of lists what NumPy cannot read of it."""
    try:
        yield
    except (RuntimeError, TypeError) as error:
        *_, last = traceback.extract_tb(error.__traceback__)
        if not last.filename.startswith(os.path.dirname(torch.__file__)):  # noqa: PTH120 - names are str
            raise
        msg = (
            "`X` must hold numbers, but a tensor inside of its lists is none that "
            f"NumPy reads ({error}). Give rows that are tensors, or lists of numbers."
        )
        raise ConversionError(msg) from error


def _check_plain(X: Any) -> None:
    """Refuse a list of numbers of which some are masked, and arrays with fields."""
    if isinstance(X, (list, tuple)):
        row = next((row for row, one in enumerate(X) if one is np.ma.masked), None)
        if row is not None:
            msg = f"`X` must have all its values, but row {row} has masked values."
            raise ConversionError(msg)
    if getattr(getattr(X, "dtype", None), "names", None):
        msg = (
            f"`X` must hold numbers, got an array with the fields {X.dtype.names}. "
            "Call numpy.lib.recfunctions.structured_to_unstructured(X) first."
        )
        raise ConversionError(msg)


def _check_even(X: Any) -> None:
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


def _is_surely_right(estimator: Any, X: Any) -> bool:
    """Return whether scikit-learn's checks, of 130 microseconds, would surely pass."""
    if type(X) is not np.ndarray or X.ndim < _TWO_AXES or X.dtype not in _FLOATS:
        return False
    if not X.size or hasattr(estimator, "feature_names_in_"):
        return False
    if X.ndim == _TWO_AXES and X.shape[1] != getattr(
        estimator, "n_features_in_", X.shape[1]
    ):
        return False
    # A product with itself is infinite or NaN where a value is, and takes two thirds of
    # the time of a sum. Where only the squares are too large, scikit-learn has a look.
    with np.errstate(all="ignore"):
        if X.flags.c_contiguous:
            return bool(np.isfinite(np.dot(X.reshape(-1), X.reshape(-1))))
        return bool(np.isfinite(np.add.reduce(X, axis=None)))


class ArrayFeed(Feed):
    """The rows of an array; floats are cast to the model's dtype batch by batch.

    Batches are copies, unless with `only_read` the model is known not to write to them.
    Of floats, `integers` says which were such, and may not be rounded.
    """

    def __init__(
        self,
        array: NDArray[Any],
        dtype: torch.dtype,
        memory: Memory | None = None,
        integers: NDArray[np.bool_] | None = None,
        *,
        only_read: bool = False,
    ) -> None:
        self.row_size = math.prod(array.shape[1:])
        self._array = array
        self._dtype = dtype
        self._memory = memory
        self._integers = integers
        self._spare = _Spare()
        self._as_it_is = (
            only_read and is_same_float(array.dtype, dtype) and _can_wrap(array)
        )

    def __len__(self) -> int:
        return len(self._array)

    def batch(self, rows: Rows) -> Inputs:
        """Copy these rows, or show them to a model that only reads."""
        source = self._array[rows]
        if self._as_it_is:
            return Inputs((torch.from_numpy(source),))
        memory = self._memory or (
            fresh if source.nbytes < _CHEAP_BYTES else self._spare
        )
        try:
            made = to_tensor(source, dtype=self._dtype, memory=memory)
        except ValueError as error:
            raise FeedError(rows, self._overflow) from error
        if self._integers is not None:
            self._check_integers(rows, source, made)
        return Inputs((made,))

    def _check_integers(
        self, rows: Rows, source: NDArray[Any], made: torch.Tensor
    ) -> None:
        assert self._integers is not None  # noqa: S101 - asked before
        marked = self._integers[rows]
        lost = marked & (made.double().cpu().numpy() != source)
        if lost.any():
            row, *_ = place = np.unravel_index(int(np.argmax(lost)), lost.shape)
            value, dtype = int(source[place]), self._dtype
            raise FeedError(
                as_indices(rows)[[row]],
                lambda named: rounded_error(named.removeprefix("row "), value, dtype),
            )

    def _overflow(self, rows: str) -> ValueError:
        reason = overflow(self._array.dtype, self._dtype)
        reason.add_note(f"While casting {rows} of `X`.")
        return reason


def _can_wrap(array: NDArray[Any]) -> bool:
    """Return whether torch takes rows of an array for what a copy of them would be.

    It warns of arrays that are read-only, and asks the strides, also those of axes of
    length 1, how values are laid out.
    """
    flags, stride = array.flags, array.itemsize
    if not (flags.writeable and flags.aligned):
        return False
    for size, own in zip(reversed(array.shape), reversed(array.strides), strict=True):
        if own != stride:
            return False
        stride *= size
    return True


class _Spare(threading.local):
    """Memory for one batch after the other, as long as nobody keeps the last one.

    Each thread has its own: two that ask at once must not get the same.

    Fresh memory of some megabytes costs as much as the copy into it. Whatever wraps
    the memory (a tensor, a view of one that the model has kept) holds a reference to
    its array, so that the count of references shows whether it is free.
    """

    def __init__(self) -> None:
        self._spare = np.empty(0, np.uint8)

    def __call__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> torch.Tensor:
        n_bytes = math.prod(shape) * dtype.itemsize
        if self._spare.nbytes < n_bytes or sys.getrefcount(self._spare) > _UNSHARED:
            self._spare = np.empty(n_bytes, np.uint8)
        return torch.from_numpy(self._spare[:n_bytes].view(dtype).reshape(shape))
