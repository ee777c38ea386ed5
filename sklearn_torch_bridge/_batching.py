"""Order rows, cut them into batches."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sklearn_torch_bridge._types import Indices, Rows

__all__ = ["Batches", "as_indices", "count_rows", "describe_rows", "longest_first"]

_SHOWN = 5


def longest_first(lengths: NDArray[np.int64]) -> Indices:
    """Order rows by falling length, equal ones as they came.

    Rows of like length share a batch and need little padding; the longest come first
    so that too large a batch shows at once.

    >>> longest_first(np.array([2, 9, 2, 4]))
    array([1, 3, 0, 2])
    """
    return np.argsort(-lengths, kind="stable")


class Batches:
    """Rows cut into batches of at most `batch_size`: as they come, or by length.

    A batch also has at most `most` padded elements (rows times the longest length), if
    it has more than one row. One that proved too large can be halved: its rows come
    again, and from then on no batch is larger than the half.

    >>> [rows.tolist() for rows in Batches(3, 2, np.array([1, 3, 2]))]
    [[1, 2], [0]]
    >>> list(Batches(3, 2))
    [slice(0, 2, None), slice(2, 3, None)]
    """

    def __init__(
        self,
        n_rows: int,
        batch_size: int,
        lengths: NDArray[np.int64] | None = None,
        most: int | None = None,
    ) -> None:
        self.most = most
        self._n_rows = n_rows
        self._batch_size = batch_size
        self._lengths = lengths
        self._order = None if lengths is None else longest_first(lengths)
        self._next = 0

    def __iter__(self) -> Iterator[Rows]:
        while self._next < self._n_rows:
            yield self._cut()

    def halve(self, rows: Rows) -> bool:
        """Take the last batch back, to be cut again; False if it is a single row."""
        n_rows = count_rows(rows)
        if n_rows == 1:
            return False
        self.most = self.elements(rows) * (n_rows // 2) // n_rows
        self._next -= n_rows
        return True

    def elements(self, rows: Rows) -> int:
        """Count the elements of a batch after padding; a row of an array is one."""
        if self._lengths is None:
            return count_rows(rows)
        return count_rows(rows) * int(self._lengths[rows].max())

    def _cut(self) -> Rows:
        size = self._batch_size
        if self.most is not None:
            longest = 1
            if self._order is not None and self._lengths is not None:
                longest = int(self._lengths[self._order[self._next]])
            size = max(1, min(size, self.most // max(1, longest)))
        run = slice(self._next, min(self._next + size, self._n_rows))
        self._next = run.stop
        return run if self._order is None else self._order[run]


def as_indices(rows: Rows) -> Indices:
    """Spell out a slice.

    >>> as_indices(slice(2, 5)), as_indices(np.array([7]))
    (array([2, 3, 4]), array([7]))
    """
    return np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows


def count_rows(rows: Rows) -> int:
    """Count the rows of a batch.

    >>> count_rows(slice(2, 5)), count_rows(np.array([7]))
    (3, 1)
    """
    return rows.stop - rows.start if isinstance(rows, slice) else len(rows)


def describe_rows(rows: Rows) -> str:
    """Name rows in an error message, shortly.

    >>> describe_rows(slice(32, 64)), describe_rows(np.array([7]))
    ('rows 32 to 63', 'row 7')
    >>> describe_rows(np.array([40, 3, 17, 5, 8, 11, 2]))
    'rows 2, 3, 5, 8, 11, ... (7 rows)'
    """
    ordered = np.sort(as_indices(rows))
    if len(ordered) == 1:
        return f"row {ordered[0]}"
    if ordered[-1] - ordered[0] == len(ordered) - 1:
        return f"rows {ordered[0]} to {ordered[-1]}"
    shown = ", ".join(str(row) for row in ordered[:_SHOWN])
    if len(ordered) <= _SHOWN:
        return f"rows {shown}"
    return f"rows {shown}, ... ({len(ordered)} rows)"
