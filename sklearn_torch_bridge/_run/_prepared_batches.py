"""Batches that are prepared for the model: when it is its turn, or ahead by threads."""

from collections import deque
from collections.abc import Callable, Generator

from sklearn_torch_bridge._errors import ForwardError
from sklearn_torch_bridge._row_numbers import count_rows, describe_rows
from sklearn_torch_bridge._rows import Feed, FeedError
from sklearn_torch_bridge._run._failed_batches import is_out_of_memory
from sklearn_torch_bridge._run._sorted_batches import Batches
from sklearn_torch_bridge._run._threads import Threads
from sklearn_torch_bridge._types import Inputs, Rows, UnevenBatchError

__all__ = ["Prepare", "PreparedBatches", "batches_of", "first_inputs"]

Prepare = Callable[[], Inputs]


def batches_of(
    feed: Feed, batch_size: int, most: int | None = None, *, even: bool
) -> Batches:
    """Cut the rows of a feed into batches; with `even` each of rows of one length."""
    lengths, groups = feed.lengths, feed.groups
    return Batches(len(feed), batch_size, lengths, most, even=even, groups=groups)


def first_inputs(feed: Feed) -> tuple[Inputs, int]:
    """Prepare as many of all rows as may share a batch, and count them."""
    batches = batches_of(feed, len(feed), even=feed.even)
    while True:
        rows = next(batches)
        try:
            return feed.batch(rows), count_rows(rows)
        except UnevenBatchError as error:
            batches.part(rows, error.parts)


class PreparedBatches:
    """The batches of a feed; each comes with a function that returns its inputs.

    With `n_threads`, threads prepare the next ones meanwhile. `caller_rows` names the
    rows of the caller's `X`, for errors.
    """

    def __init__(
        self,
        feed: Feed,
        batches: Batches,
        n_threads: int,
        caller_rows: Callable[[Rows], Rows],
    ) -> None:
        self._feed = feed
        self._batches = batches
        self._n_threads = n_threads
        self._caller_rows = caller_rows

    def __iter__(self) -> Generator[tuple[Rows, Prepare | None], None, None]:
        if self._n_threads:
            return self._ahead()
        return ((rows, None) for rows in self._batches)

    def prepare(self, rows: Rows) -> Inputs:
        """Prepare one batch; a `FeedError`, or a note, tells which rows failed."""
        try:
            return self._feed.batch(rows)
        except (FeedError, UnevenBatchError):
            raise
        except Exception as error:
            named = describe_rows(self._caller_rows(rows))
            if isinstance(error, (TypeError, ValueError)) or is_out_of_memory(error):
                error.add_note(f"While preparing {named} of `X`.")
                raise
            msg = f"preparing {named} of `X` failed: {type(error).__name__}: {error}"
            raise ForwardError(msg) from error

    def _ahead(self) -> Generator[tuple[Rows, Prepare | None], None, None]:
        waiting: deque[tuple[Rows, Prepare]] = deque()
        threads = Threads(self._n_threads)
        try:
            while True:
                while len(waiting) <= self._n_threads:
                    drawn = next(self._batches, None)
                    if drawn is None:
                        break
                    waiting.append((drawn, threads.begin(self.prepare, drawn)))
                if not waiting:
                    break
                rows, finish = waiting.popleft()
                if self._batches.is_too_large(rows):
                    self._batches.put_back(rows)
                else:
                    yield rows, finish
            threads.end()
        except BaseException:
            threads.end()
            raise
