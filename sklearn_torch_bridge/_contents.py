"""The bytes of a tensor, and a quick sum of them that tells when they change."""

import ctypes
import zlib
from collections.abc import Callable
from typing import Any, TypeVar

import torch

__all__ = ["Contents", "contents", "with_bytes"]

Contents = tuple[torch.Size, torch.dtype, int]

_T = TypeVar("_T")


def with_bytes(tensor: torch.Tensor, use: Callable[[Any], _T]) -> _T:
    """Call `use` with the values of a strided CPU tensor, in C order, as one buffer.

    The buffer is the tensor's own memory where that is dense, and lives as long as
    the call. Not through NumPy, which would lock the storage's size.
    """
    dense = tensor.detach().resolve_conj().resolve_neg().contiguous()
    n_bytes = dense.numel() * dense.element_size()
    if not n_bytes:
        return use(b"")
    return use((ctypes.c_ubyte * n_bytes).from_address(dense.data_ptr()))


def contents(tensor: torch.Tensor) -> Contents:
    """Sum up values by a checksum: version counters miss `p.data` and fused steps.

    About 15 ms for 90 MB. A change of one value, or of several within four bytes, is
    always seen; any other is missed once in four billion.
    """
    return tensor.shape, tensor.dtype, with_bytes(tensor, zlib.crc32)
