"""What kinds of rows, checked rows and feeds have in common.

A kind of rows is one file: how they are recognised, checked and turned into batches.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse

from sklearn_torch_bridge._results import Spans
from sklearn_torch_bridge._row_numbers import as_indices, describe_rows
from sklearn_torch_bridge._rows._given_input import Given
from sklearn_torch_bridge._types import Indices, Inputs, Rows, Windows
from sklearn_torch_bridge.models import (
    AcceptedInputs,
    LoadedModel,
    Maximum,
    text_of_prompt,
)

__all__ = [
    "CheckedRows",
    "Feed",
    "FeedError",
    "Kind",
    "Receiver",
    "SubsetFeed",
    "n_rows",
]


class Feed(ABC):
    """Rows in any order, ready for a model."""

    even: bool = False
    """Whether only rows of one length may share a batch."""

    keeps_shape: bool = False
    """Whether no row is padded to those beside it, but where a mask says so."""

    lengths: NDArray[np.int64] | None = None
    """The tokens of each row, where rows differ: they decide the order."""

    groups: NDArray[np.intp] | None = None
    """The group of each row, where rows differ in shape: others share no batch."""

    row_size: int | None = None
    """The number of values in a row, of several shapes in the largest."""

    lengths_are_exact: bool = False
    """Whether rows whose `lengths` are equal are not padded."""

    full_lengths: NDArray[np.int64] | None = None
    """How long each row is before it is cut; None where nothing is cut."""

    maximum: Maximum | None = None
    """How long a row may be; None where nobody knows."""

    spans: Spans | None = None
    """Which windows the rows of the feed are, where some are windows of longer ones."""

    @property
    def padded_by(self) -> Any:
        """What may pad rows that share a batch; None where nothing does."""
        return None

    @property
    def low_rates(self) -> Mapping[int, tuple[int, int]]:
        """The rates of rows of sound that are below the model's, and that, once run."""
        return {}

    @property
    def sizes(self) -> NDArray[np.int64] | None:
        """About how long each row is, where that is cheap to know."""
        return self.lengths

    @abstractmethod
    def __len__(self) -> int:
        """Count the rows."""

    def subset(self, which: Indices) -> "Feed":
        """Return some rows of it, in the order given."""
        return SubsetFeed(self, which)

    @abstractmethod
    def batch(self, rows: Rows) -> Inputs:
        """Prepare these rows, on the CPU; a model that may write gets its own copy."""


class SubsetFeed(Feed):
    """Some rows of another feed, in the order given."""

    def __init__(self, feed: Feed, which: Indices) -> None:
        self.row_size, self.even = feed.row_size, feed.even
        self.lengths = None if feed.lengths is None else feed.lengths[which]
        self.groups = None if feed.groups is None else feed.groups[which]
        full, self.maximum = feed.full_lengths, feed.maximum
        self.full_lengths = None if full is None else full[which]
        self.lengths_are_exact = feed.lengths_are_exact
        self._feed = feed
        self._which = which

    @property
    def padded_by(self) -> Any:
        """What may pad rows of the whole feed."""
        return self._feed.padded_by

    @property
    def sizes(self) -> NDArray[np.int64] | None:
        """About how long each of the chosen rows is."""
        sizes = self._feed.sizes
        return None if sizes is None else sizes[self._which]

    @property
    def low_rates(self) -> Mapping[int, tuple[int, int]]:
        """The low rates of the chosen rows."""
        found = self._feed.low_rates
        own = enumerate(self._which if found else ())
        return {row: found[one] for row, one in own if one in found}

    @property
    def keeps_shape(self) -> bool:  # type: ignore[override]  # of the feed, at any time
        """Whether the rows of the other feed are not padded to those beside them."""
        return self._feed.keeps_shape

    def __len__(self) -> int:
        return len(self._which)

    def batch(self, rows: Rows) -> Inputs:
        """Prepare these of the chosen rows; neighbours stay a slice."""
        own = self._which[rows]
        neighbours = len(own) > 0 and bool((np.diff(own) == 1).all())
        chosen = slice(int(own[0]), int(own[-1]) + 1) if neighbours else own
        try:
            return self._feed.batch(chosen)
        except FeedError as error:
            failed = np.flatnonzero(np.isin(self._which, as_indices(error.rows)))
            raise FeedError(failed, error.error) from error.__cause__


class FeedError(Exception):
    """Some rows of a feed cannot be prepared: `rows`, by their numbers in the feed.

    `error` makes the exception for the caller, of words for the caller's rows.
    """

    def __init__(self, rows: Rows, error: Callable[[str], Exception]) -> None:
        super().__init__(rows)
        self.rows = rows
        self.error = error

    def for_rows(self, rows: Rows) -> Exception:
        """Return the exception to raise, for these rows of the caller's `X`."""
        error = self.error(describe_rows(rows))
        error.__cause__ = self.__cause__
        return error


@dataclass(frozen=True)
class Receiver:
    """What batches are prepared for: a loaded model, and the options of one call."""

    loaded: LoadedModel
    preprocess: Any = None  # of the caller
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    compiles: bool = False
    forgiving: bool = False  # rows that fail become NaN
    prompt: str | None = None  # put before each text; None: the model's default
    max_length: int | None = None  # None: the model's maximum
    windows: Windows | None = None  # how longer rows are read; None: they are cut

    @cached_property
    def accepts(self) -> AcceptedInputs:
        """What the model takes, asked once."""
        return AcceptedInputs(self.loaded.module)

    @cached_property
    def prompt_text(self) -> str:
        """What is put before each text: the prompt that a name stands for, or none."""
        return text_of_prompt(self.prompt, self.loaded.told)


class Kind(ABC):
    """One kind of rows, with all that is special to it."""

    name: str
    has_arrays = False
    """Whether its rows are arrays or tensors, which may be raw pictures or sound."""
    has_tokens = False
    """Whether results without `pooling` are kept apart, where a mask names the tokens.
    """
    differs_in_shape = False
    """Whether results without `pooling` are kept apart."""

    @abstractmethod
    def recognises(self, given: Given) -> bool:
        """Return whether `X` is of this kind; kinds before it in the table are not."""

    @abstractmethod
    def check(self, given: Given) -> "CheckedRows":
        """Check all of `X`, before a model is loaded for it."""

    def feed(self, values: Any, receiver: Receiver) -> Feed:
        """Turn checked values into a feed."""
        raise NotImplementedError  # checked, they are of another kind

    def made_up(self, values: Any, receiver: Receiver) -> "CheckedRows":
        """Make up one row, of which the results are as those of `values` would be."""
        raise NotImplementedError  # of kinds whose checks never see 0 rows

    def __repr__(self) -> str:
        return self.name


def n_rows(values: Any) -> int:
    """Count rows; the length of a sparse matrix is another number."""
    count: int = values.shape[0] if issparse(values) else len(values)
    return count


@dataclass(frozen=True)
class CheckedRows:
    """All of `X`, checked, before a model has been loaded for it.

    `values` holds each row that may run, texts once each; for each row of `X`, `origin`
    is the number of its value (-1: none), and None where they are the same. `bad` are
    the rows of `X` that no model could take, with ``on_error="nan"``; `why_bad` is said
    of the first.
    """

    kind: Kind
    values: Any
    n_samples: int
    origin: Indices | None = None
    bad: Indices = field(default_factory=lambda: np.empty(0, np.intp))
    why_bad: str = "missing, not finite, or of another kind"

    def __len__(self) -> int:
        return n_rows(self.values)

    @property
    def differs_in_shape(self) -> bool:
        """Whether rows differ in shape, so that results may."""
        is_ragged: bool = getattr(self.values, "is_ragged", False)
        return self.kind.differs_in_shape or is_ragged

    @property
    def has_tokens(self) -> bool:
        """Whether rows have a length of their own, even if all happen to have one."""
        return self.kind.has_tokens or self.differs_in_shape

    def which_may_run(self) -> Indices:
        """Return the `values` that some row of `X` shows."""
        if self.origin is None:
            return np.arange(len(self))
        return np.unique(self.origin[self.origin >= 0])

    def merged(self, contents: Sequence[bytes]) -> "CheckedRows":
        """Let equal rows of an array stand for each other; texts are distinct."""
        first: dict[bytes, int] = {}
        same = np.array(
            [first.setdefault(own, row) for row, own in enumerate(contents)]
        )
        if len(first) == len(contents):
            return self
        origin = self.origin
        merged = same if origin is None else np.where(origin < 0, -1, same[origin])
        return replace(self, origin=merged)

    def without(self, which: Indices, finished: NDArray[np.bool_]) -> Indices:
        """Leave out `values` of which every row of `X` is finished."""
        wanted = ~finished
        if self.origin is None:
            return which[wanted[which]]
        left = np.zeros(len(self), bool)
        left[self.origin[wanted & (self.origin >= 0)]] = True
        return which[left[which]]

    def origin_of(self, which: Indices | None) -> Indices | None:
        """Return for each row of `X` its row in a feed of `which` (-1: none)."""
        if which is None:
            return self.origin
        places = np.full(len(self) + 1, -1)  # the last for origin -1
        places[which] = np.arange(len(which))
        return places[:-1] if self.origin is None else places[self.origin]

    def caller_rows(self, rows: Rows, which: Indices | None) -> Rows:
        """Return the rows of `X` that show these rows of a feed of `which`."""
        origin = self.origin_of(which)
        if origin is None:
            return rows
        return np.flatnonzero(np.isin(origin, as_indices(rows)))

    def among(self, n_samples: int, good: Indices) -> "CheckedRows":
        """Return these as the rows `good` of an `X` whose other rows are bad."""
        origin = np.full(n_samples, -1)
        origin[good] = np.arange(len(self)) if self.origin is None else self.origin
        bad = np.setdiff1d(np.arange(n_samples), np.delete(good, self.bad))
        # Which may name a row by its number among the good ones.
        why = CheckedRows.why_bad
        return replace(self, n_samples=n_samples, origin=origin, bad=bad, why_bad=why)

    def row(self, row: int) -> "CheckedRows":
        """Return a single one of `values`."""
        one = self.values[row : row + 1]
        return CheckedRows(self.kind, one, 1)
