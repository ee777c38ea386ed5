"""The bytes of many tensors as a few arrays, the same objects until they change.

joblib writes an array of more than a megabyte to one file for all its tasks, where it
is given the same array *object*; smaller ones travel with every task. So each large
stretch of memory is one array, a view, and all small ones are copied into one.
"""

import threading
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch

from sklearn_torch_bridge._tensor_bytes import Bytes, storage_bytes

__all__ = ["LARGE_BYTES", "Segments", "segments_of"]

LARGE_BYTES = 1 << 20  # more than that, joblib hands to its workers as a file
_ALIGNED_BYTES = 64  # a cache line, for each tensor among the small ones
_LARGEST_ITEM_BYTES = 16  # complex128


Place = tuple[int, int]  # where a tensor begins: number of the array, byte in it


class Segments(NamedTuple):
    """The memory of some tensors, and the place of each; None if it has no values."""

    arrays: list[Bytes]
    devices: list[torch.device]
    places: list[Place | None]


def segments_of(owner: Any, tensors: Sequence[torch.Tensor]) -> Segments:
    """Return the memory of the strided `tensors` that belong to `owner`.

    Shared memory is there once. Large arrays on the CPU are views; their storage can
    still be resized. While contents are equal, the arrays are those of the last call:
    all bytes are read for checksums, as version counters miss `p.data` and fused steps.
    """
    segments, found = _join(tensors)
    groups = _group(segments)
    begins: dict[_Segment, Place] = {
        segment: (number, start)
        for number, group in enumerate(groups)
        for segment, start in zip(group, _starts(group), strict=True)
    }
    places: list[Place | None] = [None] * len(tensors)
    for number, (segment, offset) in found.items():
        array, start = begins[segment]
        places[number] = array, start + offset
    with _LOCK:
        known = [*_KNOWN.get(owner, ()), *[None] * len(groups)]
        kept = [_keep(*pair) for pair in zip(groups, known, strict=False)]
        if kept:
            _KNOWN[owner] = kept
    devices = [group[0].device for group in groups]
    return Segments([one.array for one in kept], devices, places)


@dataclass(eq=False)
class _Segment:
    """A stretch of a storage that tensors cover without a gap between them."""

    storage: torch.UntypedStorage
    device: torch.device
    start: int
    stop: int

    @property
    def n_bytes(self) -> int:
        return self.stop - self.start

    @property
    def is_large(self) -> bool:
        return self.n_bytes > LARGE_BYTES

    def read(self) -> Bytes:
        """Return a view of the memory, or a copy where it is on another device."""
        if self.device.type != "cpu":
            flat = torch.empty(0, dtype=torch.uint8, device=self.device)
            flat.set_(self.storage, self.start, (self.n_bytes,), (1,))
            return np.asarray(flat.cpu())
        return storage_bytes(self.storage, self.start, self.n_bytes)


class _Kept(NamedTuple):
    """An array, and what it was made of."""

    array: Bytes
    state: tuple[Any, ...]
    storage: torch.UntypedStorage | None  # of a view


_KNOWN: WeakKeyDictionary[Any, list[_Kept]] = WeakKeyDictionary()
_LOCK = threading.Lock()  # joblib pickles in a thread of its own


def _join(
    tensors: Iterable[torch.Tensor],
) -> tuple[list[_Segment], dict[int, tuple[_Segment, int]]]:
    """Unite tensors that overlap; return the segment of each, and its byte there."""
    by_storage: dict[tuple[torch.device, int], list[tuple[int, _Segment]]] = {}
    for number, tensor in enumerate(tensors):
        if tensor.numel():
            own = _extent(tensor)
            key = (own.device, own.storage.data_ptr())
            by_storage.setdefault(key, []).append((number, own))
    segments: list[_Segment] = []
    found = {}
    for extents in by_storage.values():
        stop = -1
        for number, own in sorted(extents, key=lambda pair: pair[1].start):
            # At a multiple of any item's size, so that every dtype fits.
            begin = own.start - own.start % _LARGEST_ITEM_BYTES
            if begin >= stop:
                segments.append(_Segment(own.storage, own.device, begin, own.stop))
            stop = segments[-1].stop = max(segments[-1].stop, own.stop)
            found[number] = (segments[-1], own.start - segments[-1].start)
    return segments, found


def _extent(tensor: torch.Tensor) -> _Segment:
    """Return the stretch from the first to the last value of a tensor."""
    storage, item = tensor.untyped_storage(), tensor.element_size()
    start = int(tensor.storage_offset()) * item
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    stop = start + int(1 + sum((size - 1) * stride for size, stride in steps)) * item
    if stop > storage.nbytes():
        msg = (
            f"a tensor of shape {tuple(tensor.shape)} needs {stop} bytes, but its "
            f"storage holds {storage.nbytes()}: it was freed or resized (a sharded or "
            "offloaded model?). Gather the weights first."
        )
        raise ValueError(msg)
    return _Segment(storage, tensor.device, start, stop)


def _group(segments: Iterable[_Segment]) -> list[list[_Segment]]:
    """Put the small segments of each device in one group, each large one in its own."""
    groups: dict[Any, list[_Segment]] = {}
    for segment in segments:
        key = segment if segment.is_large else segment.device
        groups.setdefault(key, []).append(segment)
    return list(groups.values())


def _starts(group: Iterable[_Segment]) -> list[int]:
    """Return the byte at which each segment begins in the array of its group."""
    sizes = [-(-one.n_bytes // _ALIGNED_BYTES) * _ALIGNED_BYTES for one in group]
    return [0, *accumulate(sizes[:-1])]


def _keep(group: list[_Segment], before: _Kept | None) -> _Kept:
    """Return the array of a group: the one from before, if it holds the same."""
    pieces, first = [segment.read() for segment in group], group[0]
    is_alone = first.is_large
    state = (first.device, *((piece.size, zlib.crc32(piece.data)) for piece in pieces))
    storage = first.storage if is_alone and first.device.type == "cpu" else None
    if (
        before is not None
        and before.state == state
        and before.storage is storage
        and (storage is None or before.array.ctypes.data == pieces[0].ctypes.data)
    ):
        return before
    if is_alone:
        return _Kept(pieces[0], state, storage)
    starts = _starts(group)
    array = np.zeros(starts[-1] + pieces[-1].size, np.uint8)
    for piece, start in zip(pieces, starts, strict=True):
        array[start : start + piece.size] = piece
    return _Kept(array, state, storage)
