"""How arrays and tensors are written: dtype, shape and values, wherever they lie."""

import weakref
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sklearn_torch_bridge._convert import TENSOR_TYPES, unwrap
from sklearn_torch_bridge._digest._encoder import Encoder
from sklearn_torch_bridge._errors import ConversionError
from sklearn_torch_bridge._tensor_bytes import (
    Bytes,
    Checksum,
    array_bytes,
    new_hash,
    tensor_bytes,
    tensor_checksum,
)

__all__ = [
    "dtype_name",
    "portable_bytes",
    "write_array",
    "write_scalar",
    "write_tensor",
]

_KNOWN: dict[int, tuple[weakref.ref[torch.Tensor], Checksum, bytes]] = {}
_SMALL_BYTES = 1 << 12  # below, a digest costs as little as a checksum


def write_array(encoder: Encoder, array: NDArray[Any]) -> None:
    """Write an array: by its values, or one by one where these are objects."""
    encoder.put(b"array", dtype_name(array.dtype).encode())
    encoder.add(array.shape)
    if array.dtype.hasobject:
        for place, item in enumerate(array.ravel().tolist()):
            encoder.add_part(item, "item", place)
    else:
        encoder.put(b"values", portable_bytes(array))


def write_scalar(encoder: Encoder, scalar: np.generic) -> None:
    """Write a NumPy scalar, which is not the Python number that it equals."""
    encoder.put(b"scalar")
    write_array(encoder, np.asarray(scalar))


def write_tensor(encoder: Encoder, tensor: torch.Tensor) -> None:
    """Write the values of a tensor; a subclass that wraps others by its parts."""
    parts = getattr(tensor, "__tensor_flatten__", None)
    if type(tensor) not in TENSOR_TYPES and parts is not None:
        names, context = parts()
        encoder.put(b"wrapper")
        encoder.add_part(type(tensor), "class", type(tensor).__name__)
        encoder.add((tuple(names), context))
        encoder.add_named({name: getattr(tensor, name) for name in names}, "part")
        return
    try:
        digests = [_tensor_digest(part) for part in _dense_parts(tensor)]
    except ConversionError as error:
        encoder.refuse(tensor, "a tensor whose values cannot be read", error)
        return
    encoder.put(b"tensor", f"{tensor.dtype} {tensor.layout}".encode())
    encoder.add(tuple(tensor.shape))
    encoder.put(b"values", b"".join(digests))
    notes = vars(tensor).copy()
    notes.pop("_is_hf_initialized", None)  # of no effect
    encoder.add_named(notes, "attribute")


def dtype_name(dtype: np.dtype[Any] | torch.dtype) -> str:
    """Return the name of a dtype, one in NumPy and torch and for any byte order.

    >>> dtype_name(np.dtype(">f4")), dtype_name(torch.float32)
    ('float32', 'float32')
    """
    if isinstance(dtype, torch.dtype):
        return str(dtype).removeprefix("torch.")
    return dtype.name if dtype.names is None else repr(dtype.newbyteorder("<"))


def portable_bytes(array: NDArray[Any]) -> Bytes:
    """Return the values of an array without objects, in C order, little-endian.

    >>> portable_bytes(np.array([[1, 2]], ">i2"))
    array([1, 0, 2, 0], dtype=uint8)
    """
    return array_bytes(np.ascontiguousarray(array, array.dtype.newbyteorder("<")))


def _dense_parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return the tensor itself, or those that a sparse one consists of."""
    if tensor.layout is torch.strided:
        return [tensor]
    whole = unwrap(tensor, allow_sparse=True)
    if whole.layout is torch.strided:  # it was a layout of its own, as of MKL-DNN
        return [whole]
    if whole.layout is torch.sparse_coo:
        merged = whole.coalesce()
        return [merged.indices(), merged.values()]
    if whole.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [whole.crow_indices(), whole.col_indices(), whole.values()]
    return [whole.ccol_indices(), whole.row_indices(), whole.values()]


def _tensor_digest(tensor: torch.Tensor) -> bytes:
    """Return 32 bytes for the values of a strided tensor on any device.

    Remembered while the tensor lives and a checksum of all values is the same: no
    counter shows changes, since `p.data` edits and fused optimizers bump none.
    """
    values = unwrap(tensor)
    if values.nbytes < _SMALL_BYTES:
        return _digest_bytes(tensor_bytes(values))
    checksum, place = tensor_checksum(values), id(tensor)
    known = _KNOWN.get(place)
    if known is not None and known[0]() is tensor and known[1] == checksum:
        return known[2]
    digest = _digest_bytes(tensor_bytes(values))
    forget = weakref.ref(tensor, lambda _: _KNOWN.pop(place, None))
    _KNOWN[place] = forget, checksum, digest
    return digest


def _digest_bytes(memory: Bytes) -> bytes:
    return new_hash(memory.data).digest()
