"""What a worker does with a partition, and how it tells what went wrong."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from sklearn_torch_bridge._errors import PartitionError
from sklearn_torch_bridge.adapters._allocator import keep_large_blocks
from sklearn_torch_bridge.adapters._own_device import with_own_device
from sklearn_torch_bridge.adapters._parcel import Ticket
from sklearn_torch_bridge.adapters._promise import Promise, as_dense, extractor_of

__all__ = ["Runner"]

_NOTE = 4_000  # characters of a traceback


@dataclass(frozen=True)
class Runner:
    """Calls a method of an estimator on partitions; pickles without the estimator."""

    ticket: Ticket
    method: str
    promise: Promise

    def load(self) -> Any:
        """Give the estimator, opened once by each process."""
        return self.ticket.open(_prepared)

    def run(self, rows: Any, where: Callable[[int | None], str]) -> NDArray[Any]:
        """Give the result for the rows of a partition.

        `where` names the partition, and a row of it if one is given.
        """
        n_samples = len(rows)
        if not n_samples:
            return self.promise.empty()
        call = getattr(self.load(), self.method)
        try:
            return self.promise.check(as_dense(call(rows)), n_samples)
        except Exception as error:  # noqa: BLE001 - whatever a model raises
            row = _first_failing(call, rows)
            msg = f"{where(row)} failed: {type(error).__name__}: {error}"
            failure = PartitionError(msg)
            failure.add_note("".join(traceback.format_exception(error))[-_NOTE:])
        # Out here it has no cause or context, which another process may not be able
        # to load; Dask would make a plain Exception of it.
        raise failure


def _first_failing(call: Callable[[Any], object], rows: Any) -> int | None:
    """Find the first row that fails alone, by halves; None if no row does.

    All rows run once more at most: a half, a quarter, ...
    """
    start, stop = 0, len(rows)
    while start < stop:
        middle = start + max(1, (stop - start) // 2)
        if not _fails(call, _slice(rows, start, middle)):
            start = middle
        elif middle - start == 1:
            return start
        else:
            stop = middle
    return None


def _fails(call: Callable[[Any], object], rows: Any) -> bool:
    try:
        call(rows)
    except Exception:  # noqa: BLE001 - whatever a model raises
        return True
    return False


def _slice(rows: Any, start: int, stop: int) -> Any:
    return rows.iloc[start:stop] if hasattr(rows, "iloc") else rows[start:stop]


def _prepared(estimator: Any) -> Any:
    """Make an estimator ready that this process has for itself."""
    with_own_device(extractor_of(estimator))
    keep_large_blocks()
    return estimator
