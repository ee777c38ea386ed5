"""Results on their way from an accelerator to the host, while it computes on.

A batch is copied into pinned memory and read only when the next one is under way.
That is right on CUDA alone: elsewhere copies that do not block give old data, or none
(MPS: pytorch#139550; XPU: pytorch#189980), so other devices copy and wait.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from sklearn_torch_bridge._tensor_bytes import fresh
from sklearn_torch_bridge._types import Rows

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

_MOST_BYTES = 64 << 20  # of one buffer; page-locked memory is scarce

Deliver = Callable[[Rows, list[torch.Tensor]], None]


def is_staged(device: torch.device) -> bool:
    """Tell whether copies from and to `device` may run beside the host."""
    return device.type in STAGED_DEVICES


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy to a device, without waiting where that is safe.

    CUDA stages what comes from pageable memory before the call returns, so the source
    may change or go at once. A pinned source must not change, and may go: torch's
    allocator gives its memory to nobody else before the copy is made.
    """
    return tensor.to(device, non_blocking=is_staged(device))


class PinnedStage:
    """Two reused pinned buffers a piece, each read after its event has come.

    `write` is called with the rows and the host's view of each batch, one batch late;
    `finish` brings in the last.
    """

    def __init__(self, write: Deliver) -> None:
        self._write = write
        self._buffers: dict[tuple[int, int, torch.dtype], torch.Tensor] = {}
        self._events: dict[int, Any] = {}
        self._turn = 0
        self._under_way: tuple[Any, Rows, list[torch.Tensor]] | None = None

    def put(self, rows: Rows, pieces: list[torch.Tensor]) -> None:
        """Send a batch, and write the one before; some models return CPU tensors."""
        if any(
            piece.nbytes > _MOST_BYTES or not is_staged(piece.device)
            for piece in pieces
        ):
            self.finish()
            self._write(rows, pieces)
            return
        self._turn = 1 - self._turn
        on_host = [self._send(place, piece) for place, piece in enumerate(pieces)]
        sent = self._event(pieces[0].device)
        sent.record()
        before, self._under_way = self._under_way, (sent, rows, on_host)
        self._land(before)

    def finish(self) -> None:
        """Write the last batch."""
        before, self._under_way = self._under_way, None
        self._land(before)

    def _land(self, batch: tuple[Any, Rows, list[torch.Tensor]] | None) -> None:
        if batch is not None:
            sent, rows, on_host = batch
            sent.synchronize()  # NumPy must not see the buffer before
            self._write(rows, on_host)

    def _event(self, device: torch.device) -> Any:
        """Give this turn's event: the batch that recorded it last has landed."""
        if self._turn not in self._events:
            self._events[self._turn] = torch.Event(device=device)
        return self._events[self._turn]

    def _send(self, place: int, piece: torch.Tensor) -> torch.Tensor:
        """Start the copy of one piece, dense and in its own dtype."""
        key = (self._turn, place, piece.dtype)
        buffer = self._buffers.get(key)
        if buffer is None or buffer.numel() < piece.numel():
            buffer = torch.empty(piece.shape, dtype=piece.dtype, pin_memory=True)
            self._buffers[key] = buffer
        if buffer.shape != piece.shape:  # the last batch has fewer rows, most often
            buffer = buffer.view(-1)[: piece.numel()].view(piece.shape)
        return buffer.copy_(piece.detach().contiguous(), non_blocking=True)


_MOST_PINNED_BYTES = 64 << 20  # of one batch; page-locked memory is scarce


def pinned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> torch.Tensor:
    """Give memory for one batch that an accelerator reads while the host goes on."""
    if math.prod(shape) * dtype.itemsize > _MOST_PINNED_BYTES:
        return fresh(shape, dtype)
    of_torch = torch.from_numpy(np.empty(0, dtype)).dtype
    return torch.empty(shape, dtype=of_torch, pin_memory=True)
