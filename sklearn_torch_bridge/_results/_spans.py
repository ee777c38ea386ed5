"""Which windows of which rows the entries of a feed are."""

import math
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_torch_bridge._types import Indices, Rows

__all__ = ["Spans"]


@dataclass(eq=False)
class Spans:
    """The windows of some rows, one after the other: `counts` of each row.

    A window shows `starts` to `stops` of its row, of which `overlap` is in the window
    before as well, and something before and behind that (special tokens). It enters
    averages with its weight. A model returns `scale` tokens for each of these.

    >>> spans = Spans(np.array([1, 2]), np.array([0, 0, 4]), np.array([3, 4, 6]))
    >>> spans.rows, spans.place(2)
    (array([0, 1, 1]), 'window 2 of {}, values 4 to 6')
    """

    counts: Indices
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    heads: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))
    tails: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))
    weights: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    overlap: int = 0
    unit: str = "values"
    scale: Fraction = Fraction(1)

    def __post_init__(self) -> None:
        self.heads = np.broadcast_to(self.heads, self.starts.shape)
        self.tails = np.broadcast_to(self.tails, self.starts.shape)
        if not len(self.weights):
            self.weights = self.heads + self.stops - self.starts + self.tails

    def __len__(self) -> int:
        return len(self.starts)

    @cached_property
    def firsts(self) -> Indices:
        """The first window of each row."""
        firsts: Indices = np.cumsum(self.counts) - self.counts
        return firsts

    @cached_property
    def rows(self) -> Indices:
        """The row of each window."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def is_first(self, window: int) -> bool:
        """Return whether a window is the first of its row."""
        return bool(self.firsts[self.rows[window]] == window)

    def n_tokens(self, window: int) -> int:
        """Count the tokens that a model returns for a window, if it does for each."""
        content = int(self.stops[window] - self.starts[window])
        around = int(self.heads[window] + self.tails[window])
        return around + math.ceil(content * self.scale)

    def shifts(self, rows: Rows, columns: NDArray[Any]) -> NDArray[np.int64]:
        """Return how much further in its row than in its window each column is."""
        heads, starts, stops = self.heads[rows], self.starts[rows], self.stops[rows]
        behind = self.ends[self.rows[rows]] - (stops - starts)
        is_content = columns >= heads[:, None]
        is_tail = columns >= (heads + stops - starts)[:, None]
        shifts: NDArray[np.int64] = np.where(
            is_tail, behind[:, None], np.where(is_content, starts[:, None], 0)
        )
        return shifts

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """How much there is of each row."""
        ends: NDArray[np.int64] = self.stops[self.firsts + self.counts - 1]
        return ends

    def place(self, window: int) -> str:
        """Return what a window is called, with a gap for what its row is called."""
        number = window - self.firsts[self.rows[window]] + 1
        span = f"{self.starts[window]} to {self.stops[window]}"
        return f"window {number} of {{}}, {self.unit} {span}"

    def part(self, first: int, end: int) -> "Spans":
        """Return the windows of neighbouring rows; weights set later show in both."""
        own = slice(self.firsts[first], self.firsts[end - 1] + self.counts[end - 1])
        names = ("starts", "stops", "heads", "tails", "weights")
        parts = {name: getattr(self, name)[own] for name in names}
        return replace(self, counts=self.counts[first:end], **parts)
