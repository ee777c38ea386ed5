"""Values that seem to be there and are not: masked, freed, or without memory.

They are found at any depth of lists, mappings, frames and arrays of objects, before
NumPy or torch reads them: a mask would be lost, and freed memory may end the process.
"""

import array
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.sparse import issparse

from sklearn_torch_bridge._errors import ConversionError
from sklearn_torch_bridge._tensor_bytes import lacks_memory

__all__ = [
    "FAULT_HINTS",
    "check_there",
    "deep_fault",
    "hidden_fault",
    "is_frame",
    "is_masked",
    "is_series",
    "iter_faults",
]

_MASKED = "has masked values"
FAULT_HINTS = {
    _MASKED: "The mask would be lost; call .filled(value) first",
    "is a tensor whose memory was freed or resized": "Gather or load its values first",
    "is a meta tensor, which has no values": "Load its values first",
    "is a fake tensor, which has no values": "Run the model on real tensors",
    "is a sparse matrix by itself": "Join them by scipy.sparse.vstack(rows) first",
}
_FREED, _META, _FAKE, _SPARSE = list(FAULT_HINTS)[1:]
_SUBCLASSES = {"MaskedTensor": _MASKED, "FakeTensor": _FAKE}
# What holds nothing but itself; a list of these is looked at without a call for each.
_PLAIN = frozenset(
    {bool, int, float, complex, str, bytes, bytearray, memoryview, range, array.array}
    | {type(None), np.str_, np.bool_, np.float32, np.float64, np.int32, np.int64}
)
_OBJECTS = frozenset({"object", "Object"})  # dtypes of pandas and polars
_DEEPEST = 64  # the axes that an array of NumPy may have


def hidden_fault(value: Any) -> str | None:
    """Return why values cannot be had that seem to be there; None if they can."""
    if type(value) is np.ndarray:  # which a masked array is not
        return None
    if not isinstance(value, torch.Tensor):
        if issparse(value):
            return _SPARSE
        return _MASKED if is_masked(value) else None
    if value.is_meta:
        return _META
    if type(value) is not torch.Tensor:
        for base in type(value).__mro__:
            if base.__name__ in _SUBCLASSES:
                return _SUBCLASSES[base.__name__]
    is_strided = value.layout is torch.strided and not value.is_nested
    return _FREED if is_strided and lacks_memory(value) else None


def is_masked(value: Any) -> bool:
    """Return whether an array has masked values, in some field if it has fields."""
    mask = np.ma.getmask(value)
    if mask.dtype.names:  # of which NumPy asks no `any`
        mask = np.ascontiguousarray(mask).view(np.bool_)
    return bool(mask.any())


def deep_fault(value: Any, *, masks: bool = True, depth: int = 0) -> str | None:
    """Return why a value at some depth of `value` cannot be had; None if all can.

    Without `masks`, for code of the caller that may know them, masked values can.

    >>> deep_fault([{"a": (1, np.ma.masked)}]), deep_fault([[1, 2], [3, 4]])
    ('has masked values', None)
    """
    if type(value) in _PLAIN:
        return None
    fault = None if isinstance(value, (list, tuple)) else hidden_fault(value)
    if fault is not None:
        return fault if masks or fault != _MASKED else None
    parts = None if depth == _DEEPEST else _parts(value)
    if parts is None or _PLAIN.issuperset(map(type, parts)):
        return None
    faults = (deep_fault(part, masks=masks, depth=depth + 1) for part in parts)
    return next(filter(None, faults), None)


def iter_faults(X: Any) -> Iterator[tuple[int, str]]:
    """Yield rows of a list, a Series, a frame or an array of objects, and their faults.

    >>> dict(iter_faults([[1.0], [np.ma.masked], [2.0]]))
    {1: 'has masked values'}
    """
    for rows in _object_columns(X) if is_frame(X) else (X,):
        parts = _parts(rows)
        if parts is None or _PLAIN.issuperset(map(type, parts)):
            continue
        for row, part in enumerate(parts):
            if fault := deep_fault(part):
                yield row, fault


def check_there(X: Any) -> None:
    """Refuse rows of which values cannot be had, naming the first."""
    if found := next(iter_faults(X), None):
        row, fault = found
        msg = f"row {row} {fault}. {FAULT_HINTS[fault]}."
        raise ConversionError(msg)


def _parts(value: Any) -> Sequence[Any] | None:
    """Return what a container holds; None of what holds no other objects."""
    parts: Sequence[Any] | None = None
    if isinstance(value, (list, tuple)):
        parts = value
    elif isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            parts = [*value] if value.ndim > 1 else [*value.ravel().tolist()]
    elif isinstance(value, Mapping):
        parts = [*value.values()]
    elif is_frame(value):
        parts = [*_object_columns(value)]
    elif is_series(value):
        parts = [*value.to_list()] if str(value.dtype) in _OBJECTS else None
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = [getattr(value, one.name, None) for one in dataclasses.fields(value)]
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        parts = [*value]
    return parts


def is_frame(value: Any) -> bool:
    """Check for a frame of pandas or polars, or of a library like these."""
    return hasattr(value, "columns") and hasattr(value, "dtypes")


def is_series(value: Any) -> bool:
    """Check for a Series of pandas or polars, or of a library like these."""
    return hasattr(value, "to_list") and hasattr(value, "dtype")


def _object_columns(frame: Any) -> Iterator[Any]:
    """Yield the columns of a frame that hold objects."""
    if _OBJECTS.isdisjoint(map(str, set(frame.dtypes))):
        return
    is_polars = hasattr(frame, "iter_columns")
    columns = frame.iter_columns() if is_polars else (one for _, one in frame.items())
    yield from (one for one in columns if str(one.dtype) in _OBJECTS)
