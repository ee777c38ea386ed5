"""The bytes of many tensors as a few arrays, the same objects until they change.

joblib writes an array of more than a megabyte to one file for all its tasks, where it
is given the same array *object*; smaller ones travel with every task. So each large
stretch of memory is one array, a view, and all small ones are copied into one.
"""

import threading
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch

from sklearn_torch_bridge._tensor_bytes import Bytes, memory_of

__all__ = ["LARGE_BYTES", "Place", "Segments", "segments_of"]

LARGE_BYTES = 1 << 20  # more than that, joblib hands to its workers as a file
_ALIGNED_BYTES = 64  # a cache line, for each tensor among the small ones
_LARGEST_ITEM_BYTES = 16  # complex128


class Place(NamedTuple):
    """Where the memory of a tensor begins: in which array, at which byte."""

    array: int
    start: int


class Segments(NamedTuple):
    """The memory of some tensors, and where each of them is; None if it is empty."""

    arrays: list[Bytes]
    devices: list[torch.device]
    places: list[Place | None]


def segments_of(owner: Any, tensors: Sequence[torch.Tensor]) -> Segments:
    """Give the memory of the strided `tensors` that belong to `owner`.

    What they share is there once. Large arrays on the CPU are views, and lock nobody's
    storage. For equal contents the arrays are those of the call before.

    The cost is one reading of all bytes for their checksums: version counters miss
    `p.data` and fused steps.
    """
    segments, found = _join(tensors)
    groups = _group(segments)
    begins = {
        segment: Place(number, start)
        for number, group in enumerate(groups)
        for segment, start in zip(group, _starts(group), strict=True)
    }
    places: list[Place | None] = [None] * len(tensors)
    for number, (segment, offset) in found.items():
        array, start = begins[segment]
        places[number] = Place(array, start + offset)
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
        """Give a view of the memory, or a copy of that of another device."""
        if self.device.type != "cpu":
            flat = torch.empty(0, dtype=torch.uint8, device=self.device)
            flat.set_(self.storage, self.start, (self.n_bytes,), (1,))
            copied: Bytes = flat.cpu().numpy()
            return copied
        return memory_of(self.storage, self.start, self.n_bytes)


class _Kept(NamedTuple):
    """An array, and of what it was made."""

    array: Bytes
    state: tuple[Any, ...]
    storage: torch.UntypedStorage | None  # of a view


_KNOWN: WeakKeyDictionary[Any, list[_Kept]] = WeakKeyDictionary()
_LOCK = threading.Lock()  # joblib pickles in a thread of its own


def _join(
    tensors: Iterable[torch.Tensor],
) -> tuple[list[_Segment], dict[int, tuple[_Segment, int]]]:
    """Unite what overlaps; tell for each tensor its segment, and from which byte."""
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
    """Give the bytes from the first to the last value of a tensor."""
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
    """Put the small segments of a device together; a large one stays alone."""
    groups: list[list[_Segment]] = []
    small: dict[torch.device, list[_Segment]] = {}
    for segment in segments:
        if segment.is_large:
            groups.append([segment])
        elif segment.device in small:
            small[segment.device].append(segment)
        else:
            groups.append(small.setdefault(segment.device, [segment]))
    return groups


def _starts(group: Iterable[_Segment]) -> list[int]:
    """Give the byte at which each segment begins in the array of its group."""
    starts, end = [], 0
    for segment in group:
        starts.append(end)
        end += -(-segment.n_bytes // _ALIGNED_BYTES) * _ALIGNED_BYTES
    return starts


def _keep(group: list[_Segment], before: _Kept | None) -> _Kept:
    """Give the array of a group: the one from before, if it holds the same."""
    pieces = [segment.read() for segment in group]
    first = group[0]
    is_alone = first.is_large
    state = (first.device, *((piece.size, _checksum(piece)) for piece in pieces))
    storage = first.storage if is_alone and first.device.type == "cpu" else None
    if (
        before is not None
        and before.state == state
        and before.storage is storage
        and (storage is None or _address(before.array) == _address(pieces[0]))
    ):
        return before
    array = pieces[0] if is_alone else _pack(pieces, _starts(group))
    return _Kept(array, state, storage)


def _pack(pieces: Sequence[Bytes], starts: Sequence[int]) -> Bytes:
    """Copy pieces into one array; what is between them is zero."""
    array = np.zeros(starts[-1] + pieces[-1].size, np.uint8)
    for piece, start in zip(pieces, starts, strict=True):
        array[start : start + piece.size] = piece
    return array


def _checksum(array: Bytes) -> int:
    return zlib.crc32(array.data)


def _address(array: Bytes) -> int:
    address: int = array.ctypes.data
    return address
