"""What becomes of a batch that failed: halved, split, or its bad row put aside.

One that does not fit in memory is tried again in halves, and the size that fits is
remembered for the model. With ``on_error="nan"`` one that fails otherwise is split
until the bad row is alone. Everything else ends the run.
"""

import gc
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from torch import nn

from sklearn_torch_bridge._errors import LayerNotRunError, NotCompiledError
from sklearn_torch_bridge._replica import ReadError
from sklearn_torch_bridge._run._sorted_batches import Batches
from sklearn_torch_bridge._types import Rows

__all__ = [
    "BadRow",
    "FailedBatches",
    "is_out_of_memory",
    "release_memory",
    "safe_sizes",
]

# PyTorch's allocator for the CPU raises a plain RuntimeError.
_ON_THE_CPU = ("can't allocate memory", "not enough memory")

# Another row would fail just so: what was asked of the model is wrong.
_NOT_OF_A_ROW = (LayerNotRunError, NotCompiledError, ReadError)


@dataclass(frozen=True)
class BadRow:
    """A row of the caller's `X` that came to nothing, and why."""

    places: Rows
    error: Exception


class FailedBatches:
    """Takes failed batches back into `batches`, or puts bad rows aside.

    `caller_rows` names the rows of the caller's `X`. A safe size is remembered for
    `module` and `task`: the device and what else decides how much memory a row takes.
    """

    def __init__(
        self,
        batches: Batches,
        module: nn.Module,
        task: object,
        on_error: Literal["raise", "nan"],
        caller_rows: Callable[[Rows], Rows],
    ) -> None:
        self.bad: list[BadRow] = []
        self._batches = batches
        self._module = module
        self._task = task
        self._on_error = on_error
        self._caller_rows = caller_rows

    def take_or_raise(self, rows: Rows, error: Exception) -> bool:
        """Take a failed batch, or raise what ends the run; True if memory is short."""
        short = is_out_of_memory(error) or is_out_of_memory(error.__cause__)
        if short and self._batches.halve(rows):
            safe_sizes.put(self._module, self._task, self._batches.most)
            return True
        if self._on_error == "raise" or isinstance(error, _NOT_OF_A_ROW):
            if isinstance(error, ReadError):
                raise error.reason from error.reason.__cause__
            raise error
        if not self._batches.split(rows):
            _forget_tracebacks(error)  # which would hold the tensors of the forward
            self.bad.append(BadRow(self._caller_rows(rows), error))
        return short


def _forget_tracebacks(error: BaseException | None) -> None:
    """Cut an error, and those that it came from, off the frames that they passed."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether a forward failed for want of memory, on a device or the host."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in _ON_THE_CPU
    )


def release_memory(device: torch.device) -> None:
    """Free what the failed forward held, so that half of it may fit."""
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
        """Return the size found for this model and task; None if all have fitted."""
        with self._lock:
            return self._known.get(module, {}).get(task)

    def put(self, module: nn.Module, task: object, elements: int | None) -> None:
        """Remember a size that has fitted after a larger one had not."""
        if elements is not None:
            with self._lock:
                self._known.setdefault(module, {})[task] = elements


safe_sizes = _SafeSizes()
