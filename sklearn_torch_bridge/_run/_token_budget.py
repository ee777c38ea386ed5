"""How large a batch may be: by the budget, and by what has proved to fit."""

import gc
import threading
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from torch import nn

from sklearn_torch_bridge._types import Feed

__all__ = [
    "USUAL_ROWS",
    "batch_limits",
    "is_out_of_memory",
    "release_memory",
    "safe_sizes",
]

# Padded tokens (or steps) of a batch with batch_size="auto". On a CPU more of them
# leave the cache, and on an accelerator fewer leave it idle.
_TOKENS = {"cpu": 1_024}
_TOKENS_ELSEWHERE = 32_768
_MOST_ROWS = 1_024
_VALUES = 1 << 22  # of a batch of arrays
USUAL_ROWS = 32  # rows, where nothing tells their size

# PyTorch's allocator for the CPU raises a plain RuntimeError.
_ON_THE_CPU = ("can't allocate memory", "not enough memory")


def batch_limits(
    batch_size: int | Literal["auto"], feed: Feed, device: torch.device
) -> tuple[int, int | None]:
    """Give the most rows of a batch, and the most padded elements."""
    if batch_size != "auto":
        return batch_size, None
    if feed.lengths is not None:
        return _MOST_ROWS, _TOKENS.get(device.type, _TOKENS_ELSEWHERE)
    if feed.row_size is None:
        return USUAL_ROWS, None
    return max(1, min(_MOST_ROWS, _VALUES // max(1, feed.row_size))), None


def is_out_of_memory(error: BaseException | None) -> bool:
    """Tell whether a forward failed for want of memory, on a device or the host."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in _ON_THE_CPU
    )


def release_memory(device: torch.device) -> None:
    """Give back what the failed forward held, so that half of it may fit."""
    gc.collect()
    if device.type != "cpu":
        empty_cache = getattr(torch.get_device_module(device), "empty_cache", None)
        if empty_cache is not None:
            empty_cache()


class _SafeSizes:
    """The padded elements per batch that fit, for each model and device."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: WeakKeyDictionary[nn.Module, dict[object, int]] = (
            WeakKeyDictionary()
        )

    def get(self, module: nn.Module, task: object) -> int | None:
        """Give the size found for this model and task; None if all have fitted."""
        with self._lock:
            return self._known.get(module, {}).get(task)

    def put(self, module: nn.Module, task: object, elements: int | None) -> None:
        """Remember a size that has fitted after a larger one had not."""
        if elements is not None:
            with self._lock:
                self._known.setdefault(module, {})[task] = elements


safe_sizes = _SafeSizes()
