"""NumPy to NumPy: another dtype, where every value fits or none is changed."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from sklearn_torch_bridge._errors import ConversionError

__all__ = [
    "array_dtype",
    "cast_into",
    "check_complex",
    "check_numeric",
    "holds_all",
]

_REAL, _WIDE_BYTES = "biuf", 4


def check_numeric(dtype: DTypeLike) -> np.dtype[Any]:
    """Return `dtype` as a NumPy dtype of numbers."""
    try:
        target = np.dtype(dtype)
    except TypeError as error:
        msg = f"`dtype` must be a NumPy dtype of numbers, got {dtype!r}."
        raise ValueError(msg) from error
    if target.kind not in _REAL + "c":
        msg = f"`dtype` must be a dtype of numbers, got {target.name!r}."
        raise ValueError(msg)
    return target


def check_complex(held: object, target: np.dtype[Any] | None) -> np.dtype[Any]:
    """Return `target`, which must be complex: complex values come only by name.

    scikit-learn refuses them too, or drops the imaginary part in silence.
    """
    if target is None or target.kind != "c":
        msg = (
            f"{held} values are complex, which scikit-learn cannot use. Use .real, "
            ".imag, .abs() or torch.view_as_real(t).flatten(-2), or ask for "
            "dtype='complex64' or 'complex128'."
        )
        raise ConversionError(msg)
    return target


def array_dtype(held: np.dtype[Any], asked: np.dtype[Any] | None) -> np.dtype[Any]:
    """Decide on the dtype for an array's values as `result_dtype` does for torch's."""
    if held.kind == "c":
        return check_complex(held, asked)
    if asked is not None:
        return asked
    return np.dtype(np.float32) if held == np.float16 else held.newbyteorder("=")


def holds_all(target: np.dtype[Any], held: np.dtype[Any]) -> bool:
    """Tell whether each value of `held` has a place in `target`, if a rounded one.

    >>> holds_all(np.dtype("float32"), np.dtype("int64"))
    True
    >>> holds_all(np.dtype("float32"), np.dtype("float64"))
    False
    """
    if held.kind in "biu" and target.kind in "fc":
        return target.itemsize >= _WIDE_BYTES
    return np.can_cast(held, target, "safe")


def cast_into(out: NDArray[Any], values: NDArray[Any]) -> None:
    """Write `values` into `out`; one that does not fit is a ValueError.

    Rounding to a shorter float is no misfit; infinity for a finite value is one, and
    so is NaN, a fraction or another sign for integers.
    """
    if out.dtype.kind in "biu" and not holds_all(out.dtype, values.dtype):
        _check_integers(values, out.dtype)
    try:
        with np.errstate(over="raise", under="ignore"):
            np.copyto(out, values, casting="unsafe")
    except FloatingPointError:
        largest = np.abs(values[np.isfinite(values)]).max()
        msg = _misfit(out.dtype, values, f"{largest!s} would overflow")
        raise ValueError(msg) from None


def _check_integers(values: NDArray[Any], target: np.dtype[Any]) -> None:
    if values.size == 0 or values.dtype.kind == "b":
        return
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise ValueError(_misfit(target, values, "NaN or infinity has no place"))
        broken = values[np.trunc(values) != values]
        if broken.size:
            raise ValueError(_misfit(target, values, f"{broken[0]!s} has a fraction"))
    low, high = int(values.min()), int(values.max())
    if target.kind == "b":
        least, most = 0, 1
    else:
        limits = np.iinfo(target)
        least, most = int(limits.min), int(limits.max)
    if low < least or high > most:
        value = low if low < least else high
        raise ValueError(_misfit(target, values, f"{value} would overflow"))


def _misfit(target: np.dtype[Any], values: NDArray[Any], why: str) -> str:
    return f"`dtype` must hold every value, got {target} for {values.dtype}: {why}."
