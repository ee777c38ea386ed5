"""Order rows, cut them into batches."""

import threading
from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sklearn_torch_bridge._row_numbers import as_indices, count_rows
from sklearn_torch_bridge._types import Indices, Rows

__all__ = ["Batches", "cut", "evenly", "longest_first"]


def longest_first(
    lengths: NDArray[np.int64], groups: NDArray[np.intp] | None = None
) -> Indices:
    """Order rows by falling length, equal ones as they came; `groups` stay together.

    Rows of like length share a batch and need little padding; the longest come first
    so that too large a batch shows at once.

    >>> longest_first(np.array([2, 9, 2, 4]))
    array([1, 3, 0, 2])
    >>> longest_first(np.array([2, 9, 2, 4]), np.array([1, 0, 0, 1]))
    array([1, 2, 3, 0])
    """
    if groups is None:
        return np.argsort(-lengths, kind="stable")
    longest = np.zeros(int(groups.max(initial=0)) + 1, np.int64)
    np.maximum.at(longest, groups, lengths)
    return np.lexsort((-lengths, groups, -longest[groups]))


def evenly(n_rows: int, n_places: int) -> Indices:
    """Return places all over some rows, the last among them.

    >>> evenly(100, 4)
    array([24, 49, 74, 99])
    """
    return np.arange(1, n_places + 1) * n_rows // n_places - 1


class Batches:
    """Rows cut into batches of at most `batch_size`: as they come, or by length.

    A batch also has at most `most` padded elements (rows times the longest length), if
    it has more than one row; with `even` its rows are all of one length, and with
    `groups`, one number a row, all of one group. What failed can be taken back: `halve`
    makes all later batches smaller, `split` and `part` only this one.
    Several threads may iterate over one object. With `begins_even` the first batch has
    rows of one length, whatever the others have.

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
        *,
        even: bool = False,
        groups: NDArray[np.intp] | None = None,
    ) -> None:
        self.most = most
        self.begins_even = False
        self._batch_size = batch_size
        self._lengths = lengths
        self._even = even and lengths is not None
        self._groups = groups
        self._lock = threading.Lock()
        rows: Rows = slice(0, n_rows)
        if lengths is not None:
            rows = longest_first(lengths, groups)
        self._left: list[Rows] = [rows] if n_rows else []

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Rows:
        with self._lock:
            if not self._left:
                raise StopIteration
            rows = self._left.pop()
            if isinstance(rows, slice):  # without a call: it shows in a small model
                most, middle = self.most, rows.start + self._batch_size
                if most is not None and most < self._batch_size:
                    middle = rows.start + most
                if middle < rows.stop:
                    self._left.append(slice(middle, rows.stop))
                    rows = slice(rows.start, middle)
                return rows
            size = self._size(rows)
            if size < len(rows):
                rows, rest = cut(rows, size)
                self._left.append(rest)
            return rows

    def put_back(self, *parts: Rows) -> None:
        """Take rows back that were not done; the first part is drawn first."""
        with self._lock:
            self._left.extend(reversed(parts))

    def put_last(self, rows: Rows) -> None:
        """Take rows back that were not done, to be drawn after all others."""
        with self._lock:
            self._left.insert(0, rows)

    def stop(self) -> None:
        """Yield no more rows."""
        with self._lock:
            self._left.clear()

    def is_too_large(self, rows: Rows) -> bool:
        """Return whether a batch drawn earlier is above what has proved to fit."""
        most = self.most
        return most is not None and count_rows(rows) > 1 and self.elements(rows) > most

    def halve(self, rows: Rows) -> bool:
        """Take a batch back that was too large; False if it is a single row."""
        n_rows = count_rows(rows)
        if n_rows == 1:
            return False
        half = self.elements(rows) * (n_rows // 2) // n_rows
        self.most = half if self.most is None else min(half, self.most)
        self.put_back(rows)
        return True

    def split(self, rows: Rows) -> bool:
        """Take a batch back in two parts; False if it is a single row."""
        middle = count_rows(rows) // 2
        if not middle:
            return False
        self.put_back(*cut(rows, middle))
        return True

    def part(self, rows: Rows, parts: Sequence[Indices]) -> None:
        """Take a batch back in `parts`, by positions in it, which share none."""
        places = as_indices(rows)
        self.put_back(*(places[part] for part in parts))

    def apart(self, n_rows: int) -> list[int]:
        """Have rows from all over what is left drawn next, each by itself.

        Return which they are; none where no more are left.

        >>> batches = Batches(100, 40)
        >>> batches.apart(4), [rows.start for rows in batches]
        ([24, 49, 74, 99], [24, 49, 74, 99, 0, 25, 50, 75])
        """
        with self._lock:
            counts = [count_rows(part) for part in reversed(self._left)]
            if sum(counts) <= n_rows:
                return []
            places = evenly(sum(counts), n_rows)
            kept: list[Rows] = []
            chosen: list[Rows] = []
            start = 0
            for part, count in zip(reversed(self._left), counts, strict=True):
                own = places[(places >= start) & (places < start + count)] - start
                _take_out(own, part, kept, chosen)
                start += count
            self._left = [*reversed(kept), *reversed(chosen)]
        return [int(as_indices(row)[0]) for row in chosen]

    def elements(self, rows: Rows) -> int:
        """Count the elements of a batch after padding; a row of an array is one."""
        return count_rows(rows) * self.longest(rows)

    def longest(self, rows: Rows) -> int:
        """Return the elements of the longest row of a batch."""
        return 1 if self._lengths is None else int(self._lengths[rows].max())

    def _size(self, rows: Indices) -> int:
        """Return how many of the first rows, which are by length, make a batch."""
        size = min(self._batch_size, len(rows))
        if self._lengths is None:  # put back as parts of a batch
            return size if self.most is None else min(size, self.most)
        if self._groups is not None:
            groups = self._groups[rows[:size]]
            size = int(np.count_nonzero(groups == groups[0]))
        lengths = self._lengths[rows[:size]]
        if self.most is not None:
            size = max(1, min(size, self.most // max(1, int(lengths[0]))))
        if self._even or self.begins_even:
            self.begins_even = False
            size = min(size, int(np.count_nonzero(lengths == lengths[0])))
        return size


def cut(rows: Rows, size: int) -> tuple[Rows, Rows]:
    """Part the first `size` rows from the others.

    >>> cut(slice(10, 20), 4)
    (slice(10, 14, None), slice(14, 20, None))
    """
    if not isinstance(rows, slice):
        return rows[:size], rows[size:]
    middle = rows.start + size
    return slice(rows.start, middle), slice(middle, rows.stop)


def _take_out(
    places: Indices, rows: Rows, kept: list[Rows], chosen: list[Rows]
) -> None:
    """Part the rows at some places from the others, which stay as they are."""
    done = 0
    for place in places:
        before, rest = cut(rows, int(place) - done)
        one, rows = cut(rest, 1)
        kept.append(before)
        chosen.append(one)
        done = int(place) + 1
    kept.append(rows)
    kept[:] = [part for part in kept if count_rows(part)]
