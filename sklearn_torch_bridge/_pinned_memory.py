"""Pinned memory: copies to and from an accelerator while it computes.

A batch of results is read only when the next one is under way. That is right on CUDA
alone: elsewhere copies that do not block give old data, or none (MPS: pytorch#139550;
XPU: pytorch#189980), so others copy and wait.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import numpy as np
import torch

from sklearn_torch_bridge._tensor_bytes import fresh
from sklearn_torch_bridge._types import Piece, Rows

__all__ = [
    "STAGED_DEVICES",
    "Deliver",
    "PinnedStage",
    "is_staged",
    "pinned",
    "to_device",
]

STAGED_DEVICES = {"cuda"}
"""Device types whose copies to pinned memory may run beside the host."""

_MOST_BYTES = 64 << 20  # of one batch; page-locked memory is scarce

_Batch = tuple[Any, Rows, list[torch.Tensor]]  # event, rows, copies on the host
Deliver = Callable[[Rows, Sequence[Piece]], None]
"""Takes the results of a batch, one tensor a layer, with the rows that they are of."""


def is_staged(device: torch.device) -> bool:
    """Check whether copies from and to `device` may run beside the host."""
    return device.type in STAGED_DEVICES


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy to a device, without waiting where that is safe.

    On CUDA a source in pageable memory may change or go at once: it is staged first. A
    pinned one may go alone: torch's allocator keeps its memory until the copy is made.
    """
    return tensor.to(device, non_blocking=is_staged(device))


class PinnedStage:
    """Copy results to the host through two pinned buffers for each layer.

    `write` is called with the rows and the host's view of each batch, one batch late;
    `finish` writes the last. A buffer is read after the event of its copy.
    """

    def __init__(self, write: Deliver) -> None:
        self._write = write
        self._buffers: dict[tuple[int, int, torch.dtype], torch.Tensor] = {}
        self._events: dict[int, Any] = {}
        self._turn = 0
        self._under_way: _Batch | None = None

    def put(self, rows: Rows, pieces: Sequence[Piece]) -> None:
        """Start to copy a batch, and write the one before; some are on the CPU."""
        tensors = [one for one in pieces if _may_wait(one)]
        if len(tensors) < len(pieces):
            self.finish()
            self._write(rows, pieces)
            return
        self._turn = 1 - self._turn
        on_host = [self._start_copy(*item) for item in enumerate(tensors)]
        if self._turn not in self._events:
            self._events[self._turn] = torch.Event(device=tensors[0].device)
        copied = self._events[self._turn]  # the batch that recorded it last is written
        copied.record()
        self.finish((copied, rows, on_host))

    def finish(self, current: _Batch | None = None) -> None:
        """Write the last batch, or the one before `current`."""
        before, self._under_way = self._under_way, current
        if before is not None:
            copied, rows, on_host = before
            copied.synchronize()  # NumPy must not see the buffer before
            self._write(rows, on_host)

    def _start_copy(self, index: int, piece: torch.Tensor) -> torch.Tensor:
        """Start the copy of one piece, contiguous and in its own dtype."""
        key = (self._turn, index, piece.dtype)
        buffer = self._buffers.get(key)
        if buffer is None or buffer.numel() < piece.numel():
            buffer = torch.empty(piece.shape, dtype=piece.dtype, pin_memory=True)
            self._buffers[key] = buffer
        if buffer.shape != piece.shape:  # the last batch has fewer rows, most often
            buffer = buffer.view(-1)[: piece.numel()].view(piece.shape)
        return buffer.copy_(piece.detach().contiguous(), non_blocking=True)


def _may_wait(piece: Piece) -> TypeGuard[torch.Tensor]:
    """Return whether a piece may be copied beside the next batch."""
    return (
        isinstance(piece, torch.Tensor)
        and piece.nbytes <= _MOST_BYTES
        and is_staged(piece.device)
    )


def pinned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> torch.Tensor:
    """Allocate memory for a batch that an accelerator reads beside the host."""
    if math.prod(shape) * dtype.itemsize > _MOST_BYTES:
        return fresh(shape, dtype)
    of_torch = torch.from_numpy(np.empty(0, dtype)).dtype
    return torch.empty(shape, dtype=of_torch, pin_memory=True)
