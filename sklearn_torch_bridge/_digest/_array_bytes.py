"""How arrays and tensors are written: dtype, shape and values, wherever they lie."""

import hashlib
import weakref
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sklearn_torch_bridge._convert import PLAIN_TYPES, plain
from sklearn_torch_bridge._digest._encoder import Encoder
from sklearn_torch_bridge._errors import ConversionError
from sklearn_torch_bridge._tensor_bytes import Contents, contents, with_bytes

__all__ = ["array_bytes", "dtype_name", "write_array", "write_scalar", "write_tensor"]

_NOTES = frozenset({"_is_hf_initialized"})
_SMALL_BYTES = 1 << 12  # below, hashing costs as little as looking for a change


def write_array(encoder: Encoder, array: NDArray[Any]) -> None:
    """Write an array; what it holds one by one where these are objects."""
    encoder.put(b"array", dtype_name(array.dtype).encode())
    encoder.add(array.shape)
    if array.dtype.hasobject:
        for place, item in enumerate(array.ravel().tolist()):
            encoder.add_part(item, "item", place)
    else:
        encoder.put(b"values", array_bytes(array))


def write_scalar(encoder: Encoder, scalar: np.generic) -> None:
    """Write a NumPy scalar, which is not the Python number that it equals."""
    encoder.put(b"scalar")
    write_array(encoder, np.asarray(scalar))


def write_tensor(encoder: Encoder, tensor: torch.Tensor) -> None:
    """Write the values of a tensor; a subclass that wraps others by its parts."""
    parts = getattr(tensor, "__tensor_flatten__", None)
    if type(tensor) not in PLAIN_TYPES and parts is not None:
        names, context = parts()
        encoder.put(b"wrapper")
        encoder.add_part(type(tensor), "class", type(tensor).__name__)
        encoder.add((tuple(names), context))
        encoder.add_named({name: getattr(tensor, name) for name in names}, "part")
        return
    try:
        digests = [tensor_digest(part) for part in _dense_parts(tensor)]
    except ConversionError as error:
        encoder.refuse(tensor, "a tensor whose values cannot be read", error)
        return
    encoder.put(b"tensor", f"{tensor.dtype} {tensor.layout}".encode())
    encoder.add(tuple(tensor.shape))
    encoder.put(b"values", b"".join(digests))
    notes = {
        name: note for name, note in vars(tensor).copy().items() if name not in _NOTES
    }
    encoder.add_named(notes, "attribute")


def dtype_name(dtype: np.dtype[Any]) -> str:
    """Name a dtype as torch does where it has it, whatever the order of bytes.

    >>> dtype_name(np.dtype(">f4")), dtype_name(np.dtype("int64"))
    ('float32', 'int64')
    """
    return dtype.name if dtype.names is None else repr(_little(dtype))


def array_bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Give the values of an array without objects, in C order, little end first.

    >>> array_bytes(np.array([[1, 2]], ">i2"))
    array([1, 0, 2, 0], dtype=uint8)
    """
    dense = np.ascontiguousarray(array, dtype=_little(array.dtype))
    return dense.reshape(-1).view(np.uint8)


def _little(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype.newbyteorder("<")


def _dense_parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Give the tensor itself, or those that a sparse one consists of."""
    if tensor.layout is torch.strided:
        return [tensor]
    whole = plain(tensor, allow_sparse=True)
    if whole.layout is torch.strided:  # it was a layout of its own, as of MKL-DNN
        return [whole]
    if whole.layout is torch.sparse_coo:
        merged = whole.coalesce()
        return [merged.indices(), merged.values()]
    by_row = whole.layout in (torch.sparse_csr, torch.sparse_bsr)
    names = "crow col" if by_row else "ccol row"
    first, second = (getattr(whole, f"{name}_indices")() for name in names.split())
    return [first, second, whole.values()]


class _TensorDigests:
    """Digests of tensors, for as long as these live and keep their values.

    A quick sum of all values tells whether they changed: no counter does, since
    `p.data` edits and fused optimizers bump none.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[torch.Tensor], Contents, bytes]] = {}

    def __call__(self, tensor: torch.Tensor) -> bytes:
        """Give 32 bytes for the values of a strided tensor on any device."""
        values = plain(tensor)
        if values.nbytes < _SMALL_BYTES:
            return with_bytes(values, _digest_bytes)
        state, place = contents(values), id(tensor)
        known = self._known.get(place)
        if known is not None and known[0]() is tensor and known[1] == state:
            return known[2]
        digest = with_bytes(values, _digest_bytes)
        forget = weakref.ref(tensor, lambda _: self._known.pop(place, None))
        self._known[place] = forget, state, digest
        return digest


tensor_digest = _TensorDigests()


def _digest_bytes(memory: Any) -> bytes:
    return hashlib.blake2b(memory, digest_size=32).digest()
