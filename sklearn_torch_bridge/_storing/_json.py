"""Values as JSON, of a closed list of kinds, so that reading them runs no code.

A kind that JSON lacks is an object of one key, its name.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

__all__ = ["NotPlainError", "from_plain", "to_plain"]

_NUMBERS = "biufc"  # kinds of dtypes
_DEEPEST = 100  # no setting comes near it, and no recursion ends before it


class NotPlainError(TypeError):
    """A value is of no kind that is stored."""


def to_plain(value: Any) -> Any:
    """Give what `json.dumps` takes and `from_plain` understands."""
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, (np.bool_, np.integer)):
        return value.item()
    if isinstance(value, list):
        return [to_plain(item) for item in value]
    for kind, (is_one, encode, _) in _KINDS.items():
        if is_one(value):
            return {kind: encode(value)}
    msg = f"{type(value).__name__} is no kind of value that is stored"
    raise NotPlainError(msg)


def from_plain(plain: Any) -> Any:
    """Undo `to_plain`; anything else is a `ValueError`."""
    level = [plain]
    for _ in range(_DEEPEST):
        level = [part for value in level for part in _parts(value)]
        if not level:
            return _from_plain(plain)
    msg = f"no value that is stored is nested as deep as {_DEEPEST}"
    raise ValueError(msg)


def _parts(plain: Any) -> list[Any]:
    if isinstance(plain, list):
        return plain
    return list(plain.values()) if isinstance(plain, dict) else []


def _from_plain(plain: Any) -> Any:
    if plain is None or isinstance(plain, (bool, str, int, float)):
        return plain
    if isinstance(plain, list):
        return [_from_plain(item) for item in plain]
    try:
        ((kind, content),) = plain.items()
        return _KINDS[kind][2](content)
    except (
        *(AttributeError, KeyError, OverflowError),
        *(RuntimeError, TypeError, ValueError),
    ) as error:
        msg = f"no kind of value is stored as {str(plain)[:80]!r}"
        raise ValueError(msg) from error


def _is_dtype(value: Any) -> bool:
    """Tell a dtype of numbers, or a class that names one."""
    is_class = isinstance(value, type) and (
        issubclass(value, np.generic) or value in (bool, int, float, complex)
    )
    return (isinstance(value, np.dtype) or is_class) and (
        np.dtype(value).kind in _NUMBERS
    )


def _to_dtype(name: Any) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(str(name))
    if dtype.kind not in _NUMBERS:
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


def _to_names(items: Any) -> Any:
    names = np.empty(len(items), object)
    names[:] = [str(item) for item in items]
    return names


def _is_empty(value: Any) -> bool:
    return isinstance(value, np.ndarray) and not value.size and _is_dtype(value.dtype)


def _to_empty(content: Any) -> Any:
    dtype, shape = content
    array = np.empty([int(size) for size in shape if size >= 0], _to_dtype(dtype))
    if array.size or array.ndim != len(shape):
        msg = f"an array of shape {shape} is not empty"
        raise ValueError(msg)
    return array


_Kind = tuple[Callable[[Any], bool], Callable[[Any], Any], Callable[[Any], Any]]

# Name -> what is of the kind, how it is written, how it is read.
_KINDS: dict[str, _Kind] = {
    "tuple": (
        lambda value: isinstance(value, tuple),
        lambda value: [to_plain(item) for item in value],
        lambda items: tuple(_from_plain(item) for item in items),
    ),
    "dict": (
        lambda value: (
            isinstance(value, dict) and all(isinstance(k, str) for k in value)
        ),
        lambda value: {key: to_plain(item) for key, item in value.items()},
        lambda items: {key: _from_plain(item) for key, item in items.items()},
    ),
    "dtype": (_is_dtype, lambda value: np.dtype(value).str, _to_dtype),
    "device": (lambda value: isinstance(value, torch.device), str, torch.device),
    "names": (_is_names, list, _to_names),
    "no values": (
        _is_empty,
        lambda value: [value.dtype.str, list(value.shape)],
        _to_empty,
    ),
}
