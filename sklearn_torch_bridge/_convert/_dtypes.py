"""Which NumPy dtype holds the values of which torch dtype."""

from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike

from sklearn_torch_bridge._convert._exact_integers import digits
from sklearn_torch_bridge._errors import ConversionError
from sklearn_torch_bridge._types import NUMERIC_KINDS

__all__ = [
    "HELD_DTYPES",
    "SHARED_DTYPES",
    "array_dtype",
    "check_complex",
    "check_numeric",
    "held_dtype",
    "holds_all",
    "is_same_float",
    "result_dtype",
]

# Tables, not torch.empty(0, dtype=...).numpy(): that would follow a
# `with torch.device("meta")` of the caller.
_SHARED = [
    *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32"),
    *("int64", "float32", "float64", "complex64", "complex128"),
]
SHARED_DTYPES: dict[torch.dtype, np.dtype[Any]] = {
    getattr(torch, name): np.dtype(name) for name in _SHARED
}
"""Dtypes whose values lie in memory alike in torch and NumPy."""

# Half types are widened, since scikit-learn overflows in float16 without a word.
_WIDENED = [
    *("float16", "bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2"),
    *("float8_e5m2fnuz", "float8_e8m0fnu"),  # the last is new in torch 2.7
]
HELD_DTYPES = {
    **SHARED_DTYPES,
    **{getattr(torch, one): np.dtype("f4") for one in _WIDENED if hasattr(torch, one)},
    torch.complex32: np.dtype("c8"),
}
_FLOATS = {getattr(torch, f"float{n}"): np.dtype(f"float{n}") for n in (16, 32, 64)}


def held_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    """Return the NumPy dtype that holds every value of a torch dtype."""
    try:
        return HELD_DTYPES[dtype]
    except KeyError:
        msg = (
            f"{dtype} has no NumPy equivalent: its values are packed or raw bits. "
            "Dequantize it, or unpack it to torch.int8 or torch.uint8, first."
        )
        raise ConversionError(msg) from None


def result_dtype(
    dtype: torch.dtype, asked: np.dtype[Any] | None = None
) -> np.dtype[Any]:
    """Return the dtype of the result for a tensor: `asked`, or one that holds all."""
    held = held_dtype(dtype)
    if held.kind == "c":
        return check_complex(dtype, asked)
    return held if asked is None else asked


def array_dtype(held: np.dtype[Any], asked: np.dtype[Any] | None) -> np.dtype[Any]:
    """Return the dtype of the result for an array, as `result_dtype` for a tensor."""
    if held.kind == "c":
        return check_complex(held, asked)
    if asked is not None:
        return asked
    return np.dtype(np.float32) if held == np.float16 else held.newbyteorder("=")


def is_same_float(held: np.dtype[Any], dtype: torch.dtype) -> bool:
    """Check whether floats of an array lie in memory as those of a tensor do.

    >>> [is_same_float(np.dtype(name), torch.float32) for name in ("f4", ">f4", "f8")]
    [True, False, False]
    """
    return held is _FLOATS.get(dtype)


def holds_all(target: np.dtype[Any], held: np.dtype[Any]) -> bool:
    """Check whether `target` has a value for each of `held`: no integer is rounded.

    >>> [holds_all(np.dtype("f8"), np.dtype(name)) for name in ("int32", "int64")]
    [True, False]
    """
    if held.kind in "iu" and target.kind in "fc":
        return 8 * held.itemsize <= digits(target)
    return np.can_cast(held, target, "safe")


def check_numeric(dtype: DTypeLike) -> np.dtype[Any]:
    """Return `dtype` as a NumPy dtype of numbers."""
    try:
        target = np.dtype(dtype)
    except TypeError as error:
        msg = f"`dtype` must be a NumPy dtype of numbers, got {dtype!r}."
        raise ValueError(msg) from error
    if target.kind in NUMERIC_KINDS:
        return target
    msg = f"`dtype` must be a dtype of numbers, got {target.name!r}."
    raise ValueError(msg)


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
