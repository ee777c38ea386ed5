"""What becomes of a batch that failed: halved, split, or its bad row put aside.

One that does not fit in memory is tried again in halves. One of several shapes comes
again in parts of one shape. One that fails otherwise ends the run with the first of its
rows that fails by itself; with ``on_error="nan"`` it is split until the bad row is
alone, and that one put aside. What fails alike on all rows is no row's fault: see
`Doubt`.
"""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from sklearn_torch_bridge._errors import (
    LayerNotRunError,
    NotCompiledError,
    OutputError,
)
from sklearn_torch_bridge._replica import ReadError, UnfitModelError
from sklearn_torch_bridge._row_numbers import count_rows
from sklearn_torch_bridge._rows import FeedError
from sklearn_torch_bridge._run._doubt import ADVICE, Doubt
from sklearn_torch_bridge._run._safe_sizes import SafeSize
from sklearn_torch_bridge._run._sorted_batches import Batches, cut
from sklearn_torch_bridge._types import Rows, UnevenBatchError

__all__ = [
    "BadRow",
    "FailedBatches",
    "WriteError",
    "is_out_of_memory",
    "release_memory",
]

# PyTorch's allocator for the CPU raises a plain RuntimeError.
_ON_THE_CPU = ("can't allocate memory", "not enough memory")


@dataclass(frozen=True)
class BadRow:
    """A row of the caller's `X` that came to nothing, and why."""

    places: Rows
    error: Exception


@dataclass(eq=False)
class WriteError(Exception):
    """Carries the error of results that have no place where they should go."""

    reason: Exception
    rows: Rows


class FailedBatches:
    """Takes failed batches back into `batches`, or puts bad rows aside.

    What has fitted in memory is kept in `size`. `caller_rows` names the rows of the
    caller's `X`. With `proven` some row has passed in an earlier run.
    """

    def __init__(
        self,
        batches: Batches,
        size: SafeSize,
        on_error: Literal["raise", "nan"],
        caller_rows: Callable[[Rows], Rows],
        *,
        proven: bool = False,
    ) -> None:
        self.bad: list[BadRow] = []
        self.size = size
        self.doubt = Doubt(batches, proven=proven)
        self._batches = batches
        self._budget = batches.most
        self._forgives = on_error == "nan"
        self._caller_rows = caller_rows
        self._limit()

    def take_or_raise(
        self, rows: Rows, error: Exception, again: Callable[[Rows], object]
    ) -> bool:
        """Take a failed batch, or raise what ends the run; True if memory is short.

        `again` runs some of its rows once more, to find the one that fails.
        """
        reason = _reason(error)
        if isinstance(reason, UnevenBatchError):
            self._batches.part(rows, reason.parts)
            return False
        short = _is_short(error)
        if short and count_rows(rows) > 1:
            failed = self._batches.elements(rows)
            self._batches.halve(rows)
            assert self._batches.most is not None  # noqa: S101 - as `halve` leaves it
            self.size.shrink(failed=failed, half=self._batches.most)
            self._limit()
            return True
        if self._forgives and not _is_of_batch(error):
            if count_rows(rows) > 1 and self.doubt.is_open:
                self._batches.put_last(rows)
            elif not self._batches.split(rows):
                self._put_aside(rows, error, short=short)
            return short
        self._batches.stop()  # else other devices go on meanwhile
        if not (short or _is_of_batch(error) or _is_of_options(error)):
            error = _narrowed(rows, error, again)
        told = self._for_caller(error)
        raise told from told.__cause__  # without what was handled meanwhile

    def _put_aside(self, rows: Rows, error: Exception, *, short: bool) -> None:
        """Put a bad row aside; raise what is no fault of the row's."""
        told = self._for_caller(error)
        if self.doubt.is_confirmed(rows, told, short=short):
            told.add_note(ADVICE)
            raise told from told.__cause__
        _forget_tracebacks(told)  # which would hold the tensors of the forward
        self.bad.append(BadRow(self._caller_rows(rows), told))

    def fitted(self, rows: Rows) -> None:
        """Hear that a batch has fitted: after some, larger ones are tried."""
        elements, longest = self._batches.elements(rows), self._batches.longest(rows)
        self.size.passed(elements, longest=longest)
        self._limit()

    def _limit(self) -> None:
        """Let later batches be as large as has fitted, and as was given."""
        limits = (self.size.most, self._budget)
        most = min((size for size in limits if size is not None), default=None)
        self._batches.most = most

    def _for_caller(self, error: Exception) -> Exception:
        """Return the exception that names rows of the caller's `X`."""
        if isinstance(error, FeedError):
            return error.for_rows(self._caller_rows(error.rows))
        return _reason(error)


def _reason(error: Exception) -> Exception:
    """Return the error for the caller that another one carries."""
    return error.reason if isinstance(error, (ReadError, WriteError)) else error


def _is_of_batch(error: Exception) -> bool:
    """Return whether rows by themselves would tell nothing of why a batch fails."""
    if isinstance(error, ReadError):
        return error.of_batch
    return isinstance(error, (NotCompiledError, UnfitModelError))


def _is_of_options(error: Exception) -> bool:
    """Return whether what was asked of the model is wrong, most often."""
    return isinstance(_reason(error), (LayerNotRunError, OutputError))


def _narrowed(
    rows: Rows, error: Exception, again: Callable[[Rows], object]
) -> Exception:
    """Return the error of the first row of a batch that fails by itself, by halving.

    Where both halves of some rows pass, it is the error of these.
    """
    while count_rows(rows) > 1 and not _names_some(error, rows):
        for half in cut(rows, count_rows(rows) // 2):
            try:
                again(half)
            except Exception as found:  # noqa: BLE001 - raised by the caller
                if _is_short(found) or isinstance(found, UnevenBatchError):
                    return error
                rows, error = half, found
                break
        else:
            error.add_note("Each half of these rows passed by itself.")
            return error
    return error


def _names_some(error: Exception, rows: Rows) -> bool:
    """Return whether it is known already which rows of a batch fail."""
    return isinstance(error, FeedError) and count_rows(error.rows) < count_rows(rows)


def _forget_tracebacks(error: BaseException | None) -> None:
    """Cut an error, and those that it came from, off the frames that they passed."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _is_short(error: Exception) -> bool:
    """Return whether a batch failed for want of memory."""
    return is_out_of_memory(error) or is_out_of_memory(error.__cause__)


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
