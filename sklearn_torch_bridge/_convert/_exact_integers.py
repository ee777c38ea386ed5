"""Integers that become floats: all digits are kept, or the first that loses some named.

A float may be rounded to a shorter one; an integer, which may be an id, may not.
"""

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sklearn_torch_bridge._convert._hidden_values import is_frame, is_series

__all__ = ["digits", "find_rounded", "integers_among", "kept_integers", "rounded_error"]

_ALL_HOLD = 256  # up to here, integers fit into every float of 16 bits or more
_FLOATS = frozenset({float, np.float64, np.float32, np.float16, type(None)})


def digits(target: np.dtype[Any]) -> int:
    """Return how many binary digits a float, or a part of a complex number, has.

    >>> digits(np.dtype("float32")), digits(np.dtype("complex128"))
    (24, 53)
    """
    return int(np.finfo(target).nmant) + 1


def find_rounded(values: NDArray[Any], n_digits: int) -> int | None:
    """Return the place of the first integer with more binary digits; None if all fit.

    >>> find_rounded(np.array([2**30, 2**24 + 1]), 24)
    1
    """
    most = 1 << n_digits
    if not values.size or (int(values.max()) <= most and int(values.min()) >= -most):
        return None
    flat = values.reshape(-1)
    size = flat.astype(np.uint64)  # modulo 2**64, as `-` below
    if flat.dtype.kind == "i":
        size = np.where(flat < 0, -size, size)
    lowest = size & (~size + np.uint64(1))  # the last digit that is not 0
    lost = size // np.maximum(lowest, np.uint64(1)) >= np.uint64(most)
    return int(np.argmax(lost)) if lost.any() else None


def rounded_error(row: object, value: object, dtype: object) -> ValueError:
    """Return the error for an integer that a float would round."""
    msg = (
        f"row {row} has the integer {value}, which {dtype} cannot hold: it would be "
        "rounded. Take a wider dtype, or make floats of it first if it may be rounded."
    )
    return ValueError(msg)


def integers_among(X: Any, array: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Return which large entries of `array`, of floats, have been integers in `X`.

    `X` is a list, a Series, a frame or an array of objects; None where there are none.
    One that `array` has rounded is a ValueError that names it.
    """
    is_numbers = isinstance(X, (np.ndarray, torch.Tensor)) and X.dtype != object
    if array.dtype.kind != "f" or is_numbers or not array.ndim:
        return None
    with np.errstate(invalid="ignore"):
        large = np.abs(array) >= _ALL_HOLD
    if not large.any():
        return None
    found = np.zeros(array.shape, bool)
    if is_frame(X):
        for column, own in enumerate(_columns_not_floats(X)):
            if own is not None:
                _mark(found[:, column], own, array[:, column], large[:, column])
    else:
        _mark(found, X.to_list() if is_series(X) else X, array, large)
    return found if found.any() else None


def kept_integers(X: Any, array: NDArray[Any], cast: NDArray[Any]) -> NDArray[Any]:
    """Return `cast`, made of the `array` of `X`, if no integer of `X` was rounded."""
    found = integers_among(X, array)
    if found is not None and cast.dtype.kind in "fc":
        lost = found & (cast != array)
        if lost.any():
            place = np.unravel_index(int(np.argmax(lost)), lost.shape)
            raise rounded_error(place[0], int(array[place]), cast.dtype)
    return cast


def _mark(
    found: NDArray[np.bool_], entries: Any, array: NDArray[Any], large: NDArray[Any]
) -> None:
    """Mark the large entries that are integers, and refuse those that were rounded."""
    if isinstance(entries, np.ndarray) and entries.dtype.kind in "iu":
        place = find_rounded(entries, digits(array.dtype))
        if place is not None:
            raise rounded_error(place, entries[place], array.dtype)
        found[...] = large
        return
    for row in np.flatnonzero(large.reshape(len(large), -1).any(axis=1)):
        own = entries[row]
        if isinstance(own, (list, tuple)) and _FLOATS.issuperset(map(type, own)):
            continue
        held, marks = array[row].reshape(-1), np.zeros(array[row].size, bool)
        for place, value in enumerate(_leaves(own)):
            if _is_integer(value) and abs(value) >= _ALL_HOLD:
                if not np.isfinite(held[place]) or int(held[place]) != value:
                    raise rounded_error(row, value, array.dtype)
                marks[place] = True
        found[row] = marks.reshape(array[row].shape)


def _columns_not_floats(frame: Any) -> Iterator[Any]:
    """Yield each column of a frame: its integers or objects; None of floats."""
    is_polars = hasattr(frame, "iter_columns")
    columns = frame.iter_columns() if is_polars else (one for _, one in frame.items())
    for column in columns:
        name = str(column.dtype).lower()
        if "float" in name or "bool" in name:
            yield None
            continue
        whole = column.to_numpy()
        yield whole if whole.dtype.kind in "iu" else column.to_list()


def _leaves(entry: Any) -> Iterator[Any]:
    """Yield the numbers of an entry in the order of an array of it."""
    if isinstance(entry, (np.ndarray, torch.Tensor)):
        entry = entry.tolist()
    if is_series(entry):
        entry = entry.to_list()
    if isinstance(entry, (list, tuple)):
        for part in entry:
            yield from _leaves(part)
    else:
        yield entry


def _is_integer(value: Any) -> bool:
    if isinstance(value, Decimal):
        return value.is_finite() and value == int(value)
    if isinstance(value, Fraction):
        return value.denominator == 1
    return isinstance(value, Integral)
