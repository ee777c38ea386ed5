"""Runs over windows of long rows, which are put together on their way to a sink."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from sklearn_torch_bridge._replica import Reading
from sklearn_torch_bridge._results import JoinRule, Sink, Spans, WindowsSink
from sklearn_torch_bridge._rows import Feed, SubsetFeed
from sklearn_torch_bridge._run import BadRow
from sklearn_torch_bridge._types import Rows
from sklearn_torch_bridge.models import LoadedModel
from sklearn_torch_bridge.pooling import POOLINGS

__all__ = ["rows_of_windows", "run_windows"]

# Of rows that are under way together, if both are exceeded.
_WINDOWS, _VALUES = 1 << 12, 1 << 21


class _Run(Protocol):
    """Sends the rows of a feed through the model."""

    def __call__(
        self, feed: Feed, readings: Sequence[Reading], sink: Sink, *, proven: bool
    ) -> list[BadRow]:
        """Return the rows that came to nothing."""


def run_windows(
    run: _Run,
    loaded: LoadedModel,
    feed: Feed,
    readings: Sequence[Reading],
    sink: Sink,
    *,
    proven: bool,
) -> list[BadRow]:
    """Send windows through the model, and rows put together to `sink`.

    The longest windows run first, so that hardly a row is whole before the last of
    those that run together: rows come in parts, and a finished part is kept.
    """
    assert feed.spans is not None  # noqa: S101 - asked of windows
    pairs = [_with_rule(one, loaded) for one in readings]
    heard, rules = [one for one, _ in pairs], [rule for _, rule in pairs]
    bad: list[BadRow] = []
    for first, end in _parts(feed.spans):
        spans = feed.spans.part(first, end)
        start = int(feed.spans.firsts[first])
        which = np.arange(start, start + len(spans))
        whole = len(spans) == len(feed)
        part = feed if whole else SubsetFeed(feed, which)
        joining = WindowsSink(sink, spans, rules, first)
        bad += run(part, heard, joining, proven=proven)
        proven = proven or joining.has_written
    return bad


def rows_of_windows(
    feed: Feed, rows_of: Callable[[Rows], Rows]
) -> Callable[[Rows], Rows]:
    """Return what names the caller's rows of rows of a feed, which may be windows."""
    if feed.spans is None:
        return rows_of
    rows = feed.spans.rows
    return lambda windows: rows_of(np.unique(rows[windows]))


def _with_rule(reading: Reading, loaded: LoadedModel) -> tuple[Reading, JoinRule]:
    """Return how windows are read, and how rows are made of what comes of them.

    What a model does with the vector of a text at its end (to shorten it, say) is done
    with that of the whole row, after its length was made 1 again.
    """
    is_own = not reading.layer and reading.output == loaded.output
    at_end = None
    if is_own and loaded.output is not None and reading.pool is loaded.pooling:
        at_end, reading = reading.pool, replace(reading, pool=POOLINGS["auto"])
    has_length_1 = is_own and loaded.normalizes is True and not reading.has_own_pool
    rule = JoinRule(reading.pool, has_length_1=has_length_1, at_end=at_end)
    return replace(reading, hear=rule.hear), rule


def _parts(spans: Spans) -> Iterator[tuple[int, int]]:
    """Yield neighbouring rows that run together, from one to before another.

    >>> spans = Spans(np.array([1, 1]), np.array([0, 0]), np.array([3, 1]))
    >>> [*_parts(spans)]
    [(0, 2)]
    """
    sizes = np.add.reduceat(spans.stops - spans.starts, spans.firsts)
    n_values = np.cumsum(sizes) - sizes
    number = np.minimum(n_values // _VALUES, spans.firsts // _WINDOWS)
    ends = [*(np.flatnonzero(np.diff(number)) + 1).tolist(), len(sizes)]
    yield from zip([0, *ends], ends, strict=False)
