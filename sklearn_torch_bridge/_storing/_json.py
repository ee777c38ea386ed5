"""Values of a fixed list of kinds as JSON, so that reading them runs no code.

A kind that JSON lacks is written as an object with one key, the name of the kind.
"""

import math
from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
import torch

from sklearn_torch_bridge._types import NUMERIC_KINDS, Windows

__all__ = ["NotStorableError", "decode", "encode"]

_Convert = Callable[[Any], Any]
_DEEPEST = 100  # no setting comes near it, and no recursion ends before it


class NotStorableError(TypeError):
    """A value is of none of the kinds that can be stored."""


def encode(value: Any) -> Any:
    """Convert a value to what `json.dumps` takes and `decode` converts back."""
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, (np.bool_, np.integer)):
        return value.item()
    if isinstance(value, list):
        return [encode(item) for item in value]
    for name, (includes, write, _) in _KINDS.items():
        if includes(value):
            return {name: write(value)}
    msg = f"{type(value).__name__} is no kind of value that is stored"
    raise NotStorableError(msg)


def decode(encoded: Any) -> Any:
    """Undo `encode`; raise a `ValueError` for anything else."""
    level = [encoded]
    for _ in range(_DEEPEST):
        dicts = [value.values() for value in level if isinstance(value, dict)]
        lists = [value for value in level if isinstance(value, list)]
        level = [*chain(*dicts, *lists)]
        if not level:
            return _decode(encoded)
    msg = f"no value that is stored is nested as deep as {_DEEPEST}"
    raise ValueError(msg)


def _decode(encoded: Any) -> Any:
    if encoded is None or isinstance(encoded, (bool, str, int, float)):
        return encoded
    if isinstance(encoded, list):
        return [_decode(item) for item in encoded]
    try:
        ((kind, content),) = encoded.items()
        return _KINDS[kind][-1](content)
    except (
        *(AttributeError, KeyError, OverflowError),
        *(RuntimeError, TypeError, ValueError),
    ) as error:
        msg = f"no kind of value is stored as {str(encoded)[:80]!r}"
        raise ValueError(msg) from error


def _is_dtype(value: Any) -> bool:
    """Check for a dtype of numbers, or a class that stands for one."""
    classes = (np.generic, bool, int, float, complex)
    is_class = isinstance(value, type) and issubclass(value, classes)
    is_one = is_class or isinstance(value, np.dtype)
    return is_one and np.dtype(value).kind in NUMERIC_KINDS


def _to_dtype(name: Any) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(str(name))
    if dtype.kind not in NUMERIC_KINDS:
        msg = f"{name!r} is no dtype of numbers"
        raise ValueError(msg)
    return dtype


def _is_names(value: Any) -> bool:
    return (
        isinstance(value, np.ndarray)
        and value.ndim == 1
        and value.dtype.kind in "OU"
        and all(isinstance(item, str) for item in value)
    )


def _is_empty(value: Any) -> bool:
    return isinstance(value, np.ndarray) and not value.size and _is_dtype(value.dtype)


def _to_empty(content: Any) -> Any:
    dtype, shape = content
    array = np.empty([int(size) for size in shape if size >= 0], _to_dtype(dtype))
    if array.size or array.ndim != len(shape):
        msg = f"an array of shape {shape} is not empty"
        raise ValueError(msg)
    return array


# What JSON lacks: a check for such a value, and how it is written and read.
_KINDS: dict[str, tuple[Callable[[Any], bool], _Convert, _Convert]] = {
    "tuple": (
        lambda value: isinstance(value, tuple),
        lambda value: [encode(item) for item in value],
        lambda items: tuple(_decode(item) for item in items),
    ),
    "dict": (
        lambda value: (
            isinstance(value, dict) and all(isinstance(k, str) for k in value)
        ),
        lambda value: {key: encode(item) for key, item in value.items()},
        lambda items: {key: _decode(item) for key, item in items.items()},
    ),
    "dtype": (_is_dtype, lambda value: np.dtype(value).str, _to_dtype),
    "device": (lambda value: isinstance(value, torch.device), str, torch.device),
    "windows": (
        lambda value: isinstance(value, Windows),
        lambda value: {"overlap": value.overlap},
        lambda options: Windows(**options),
    ),
    "names": (_is_names, list, lambda items: np.array([*map(str, items)], object)),
    "no values": (
        _is_empty,
        lambda value: [value.dtype.str, list(value.shape)],
        _to_empty,
    ),
}
