"""What a worker does with a partition, and the error if that fails."""

import ctypes
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from sklearn_torch_bridge._errors import PartitionError
from sklearn_torch_bridge.adapters._own_device import with_own_device
from sklearn_torch_bridge.adapters._parcel import Reference
from sklearn_torch_bridge.adapters._row_spec import RowSpec, as_dense, extractor_of

__all__ = ["Runner", "keep_large_blocks"]

_NOTE = 4_000  # characters of a traceback
_TRIM, _MAP = "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGEST_BYTES = 32 << 20  # how far glibc raises it by itself


@dataclass(frozen=True)
class Runner:
    """A call of a method on partitions; it pickles without the estimator."""

    estimator: Reference
    method: str
    spec: RowSpec

    def load(self) -> Any:
        """Return the estimator, which each process opens once."""
        return self.estimator.open(_prepared)

    def run(
        self, rows: Any, part: str, describe: Callable[[int], str] = lambda _: ""
    ) -> NDArray[Any]:
        """Return the result for rows; errors name the `part`, and describe the row."""
        n_samples = len(rows)
        if not n_samples:
            return self.spec.empty()
        call = getattr(self.load(), self.method)
        try:
            return self.spec.check(as_dense(call(rows)), n_samples)
        except Exception as error:  # noqa: BLE001 - whatever a model raises
            row = _first_failing(call, rows)
            where = part if row is None else f"row {row} of {part}{describe(row)}"
            msg = f"{where} failed: {type(error).__name__}: {error}"
            failure = PartitionError(msg)
            failure.add_note("".join(traceback.format_exception(error))[-_NOTE:])
        # Outside the handler, so that it has no cause and no context: another process
        # may not be able to load these, and Dask would raise a plain Exception instead.
        raise failure


def _first_failing(call: Callable[[Any], object], rows: Any) -> int | None:
    """Find the first row that fails alone, by bisection: all run a few times more."""
    by_place = getattr(rows, "iloc", rows)
    start, stop = 0, len(rows)
    while start < stop:
        middle = start + max(1, (stop - start) // 2)
        try:
            call(by_place[start:middle])
        except Exception:  # noqa: BLE001 - whatever a model raises
            if middle - start == 1:
                return start
            stop = middle
        else:
            start = middle
    return None


def _prepared(estimator: Any) -> Any:
    """Prepare an estimator that belongs to this process alone."""
    with_own_device(extractor_of(estimator))
    keep_large_blocks()
    return estimator


def keep_large_blocks() -> bool:
    """Have this process reuse freed blocks of up to 32 MB.

    glibc raises its limit to that by itself, unless one is set: Dask sets one for its
    workers, so that idle memory goes back to the system, and the memory of each large
    tensor then comes from the system page by page. all-MiniLM-L6-v2 takes 1.3 times as
    long. A ``MALLOC_MMAP_THRESHOLD_`` that the user sets is kept.
    """
    if sys.platform != "linux" or _MAP in os.environ or _TRIM not in os.environ:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another library than glibc
        return False
    done = mallopt(_M_MMAP_THRESHOLD, _LARGEST_BYTES)
    return bool(done and mallopt(_M_TRIM_THRESHOLD, 2 * _LARGEST_BYTES))
