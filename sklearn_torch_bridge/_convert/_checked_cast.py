"""NumPy to NumPy: a cast to another dtype that raises where a value does not fit."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_torch_bridge._convert._dtypes import holds_all
from sklearn_torch_bridge._convert._exact_integers import (
    digits,
    find_rounded,
    rounded_error,
)
from sklearn_torch_bridge._types import Indices

__all__ = ["FirstRow", "cast", "cast_into", "later_rows"]

FirstRow = int | Indices
"""The number of the first of some rows, or the numbers of all."""


def later_rows(first_row: FirstRow, n_rows: int) -> FirstRow:
    """Return what `first_row` is without the first `n_rows`."""
    return first_row + n_rows if isinstance(first_row, int) else first_row[n_rows:]


def cast(values: NDArray[Any], target: np.dtype[Any]) -> NDArray[Any]:
    """Copy `values` to another dtype; one that does not fit is a ValueError."""
    out = np.empty(values.shape, target)
    cast_into(out, values)
    return out


def cast_into(
    out: NDArray[Any], values: NDArray[Any], *, first_row: FirstRow = 0
) -> None:
    """Write `values` into `out`; one that does not fit is a ValueError.

    A float may be rounded to a shorter one, but a finite value must not become
    infinite. For integers NaN, a fraction or another sign does not fit; they may not
    be rounded themselves. `first_row` is the number of the first row in errors, or the
    numbers of all rows.
    """
    if values.dtype.kind in "iu" and out.dtype.kind in "fc":
        place = find_rounded(values, digits(out.dtype))
        if place is not None:
            row = place // max(1, values[:1].size) if values.ndim else 0
            number = later_rows(first_row, row)
            named = number if isinstance(number, int) else number[0]
            raise rounded_error(named, values.reshape(-1)[place], out.dtype)
    is_integral = out.dtype.kind in "biu" and values.size
    if is_integral and not holds_all(out.dtype, values.dtype):
        _check_integers(values, out.dtype)
    try:
        with np.errstate(over="raise", under="ignore"):
            np.copyto(out, values, casting="unsafe")
    except FloatingPointError:
        largest = np.abs(values[np.isfinite(values)]).max()
        raise _misfit(out.dtype, values, f"{largest!s} would overflow") from None


def _check_integers(values: NDArray[Any], target: np.dtype[Any]) -> None:
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise _misfit(target, values, "NaN or infinity has no place")
        broken = values[np.trunc(values) != values]
        if broken.size:
            raise _misfit(target, values, f"{broken[0]!s} has a fraction")
    limits = None if target.kind == "b" else np.iinfo(target)
    least, most = (limits.min, limits.max) if limits else (0, 1)
    for value in (int(values.min()), int(values.max())):
        if not least <= value <= most:
            raise _misfit(target, values, f"{value} would overflow")


def _misfit(target: np.dtype[Any], values: NDArray[Any], why: str) -> ValueError:
    what = f"got {target} for {values.dtype}: {why}."
    return ValueError(f"`dtype` must hold every value, {what}")
