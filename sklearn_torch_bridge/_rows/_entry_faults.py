"""One entry of `X`: whether it is missing or an array, and what is wrong with it."""

from typing import Any

import numpy as np
import torch

from sklearn_torch_bridge._convert import deep_fault, hidden_fault
from sklearn_torch_bridge._types import REAL_KINDS

__all__ = [
    "as_numbers",
    "as_row",
    "as_wide",
    "is_array",
    "is_finite",
    "is_missing",
    "number_fault",
    "shape_of",
]


def is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN, masked or pandas' NA: it equals nothing."""
    if value is None or value is np.ma.masked:
        return True
    if isinstance(value, (float, np.floating)):
        return bool(np.isnan(value))
    return type(value).__name__ in ("NAType", "NaTType")


def is_array(value: Any) -> bool:
    """Return whether a value is an array or a tensor."""
    return isinstance(value, (np.ndarray, torch.Tensor))


def shape_of(value: Any) -> tuple[int, ...] | None:
    """Return the shape of an array, or of lists of numbers; None of anything else.

    >>> shape_of([[1, 2], [3, 4]]), shape_of(["a"])
    ((2, 2), None)
    """
    sizes, inner = [], value
    while isinstance(inner, (list, tuple)):  # first: they may be many
        sizes.append(len(inner))
        if not inner:
            return tuple(sizes)
        inner = inner[0]
    if sizes:
        return tuple(sizes) if isinstance(inner, (float, int, np.number)) else None
    return tuple(value.shape) if is_array(value) else None


def as_numbers(entry: Any) -> Any:
    """Make an array of a list of numbers, of which some may be missing."""
    if deep_fault(entry):
        return entry
    try:
        array = np.asarray(entry)
        if array.dtype == object:
            array = array.astype(np.float64)
    except (RuntimeError, TypeError, ValueError):  # others, or of several lengths
        return entry
    return array if array.dtype.kind in REAL_KINDS else entry


def as_row(entry: Any) -> Any:
    """Make an array of a list or a tuple of numbers; return all else as it is."""
    is_tuple = isinstance(entry, tuple) and shape_of(entry) is not None
    return as_numbers(entry) if isinstance(entry, list) or is_tuple else entry


def number_fault(entry: Any) -> str | None:
    """Return why an entry is no array of real numbers; None if it is one."""
    if is_missing(entry):
        return "is missing"
    if not is_array(entry):
        return deep_fault(entry) or f"is a {type(entry).__name__}"
    is_tensor = isinstance(entry, torch.Tensor)
    if entry.is_complex() if is_tensor else entry.dtype.kind not in REAL_KINDS:
        return f"is of dtype {entry.dtype}"
    return hidden_fault(entry)


def as_wide(tensor: torch.Tensor) -> torch.Tensor:
    """Return floats of one byte, of which torch knows little, as longer ones."""
    is_tiny = tensor.is_floating_point() and tensor.element_size() == 1
    return tensor.float() if is_tiny else tensor


def is_finite(entry: Any) -> bool:
    """Return whether all values of an array or a tensor are finite."""
    if isinstance(entry, torch.Tensor):
        return bool(torch.isfinite(as_wide(entry)).all())
    return bool(np.isfinite(entry).all())
