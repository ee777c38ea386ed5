"""Out of memory: what it looks like, and the size of batch that fits."""

import gc
import threading
from weakref import WeakKeyDictionary

import torch
from torch import nn

__all__ = ["is_out_of_memory", "release_memory", "safe_sizes"]

# PyTorch's allocator for the CPU raises a plain RuntimeError.
_ON_THE_CPU = ("can't allocate memory", "not enough memory")


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
