"""Rows put together from what came of their windows, as soon as all of them have."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sklearn_torch_bridge._results._sink import Sink
from sklearn_torch_bridge._results._spans import Spans
from sklearn_torch_bridge._row_numbers import NamedRows, as_indices, describe_rows
from sklearn_torch_bridge._types import Indices, Piece, Pool, Rows, Tokens
from sklearn_torch_bridge.pooling import POOLINGS

__all__ = ["JoinRule", "WindowsSink"]

_HALVES = (torch.float16, torch.bfloat16)
_TWO_AXES = 2
_Parts = torch.Tensor | Sequence[torch.Tensor]  # one for each window


@dataclass(eq=False)
class JoinRule:
    """How a row is made of its windows under one reading.

    What the model returns as vectors already is averaged, whatever `pool` is, and
    brought to length 1 again where it `has_length_1`; `hear` is told of it. `at_end` is
    applied to the vectors of rows, not of their windows.
    """

    pool: Pool | None
    has_length_1: bool = False
    at_end: Pool | None = None
    is_vector: bool = False

    def hear(self, n_axes: int) -> None:
        """Note how many axes a value has before it is pooled."""
        self.is_vector = n_axes <= _TWO_AXES

    def finished(self, vectors: torch.Tensor) -> Piece:
        """Return the vectors of rows, from what their windows have come to."""
        if self.has_length_1 and self.is_vector:
            vectors = torch.nn.functional.normalize(vectors, dim=-1)
        return self.at_its_end(vectors)

    def at_its_end(self, piece: Piece) -> Piece:
        """Apply what a model does last to rows."""
        if self.at_end is None or isinstance(piece, Tokens):
            return piece
        return self.at_end(piece, None)

    def begin(self) -> "_Joined":
        """Return what the windows of one row are added to."""
        if self.pool is None and not self.is_vector:
            return _EndToEnd()
        if self.pool is POOLINGS["max"] and not self.is_vector:
            return _Largest()
        if self.pool is POOLINGS["last"] and not self.is_vector:
            return _Last()
        return _Average()


class WindowsSink:
    """A sink for windows, which writes rows to `sink` once they are whole.

    Rows of one window pass as they are. What was added of other rows is kept in
    float64: a sum of 20,000 windows in float32 was off by 5e-6. `first_row` is the
    number that the first row has in `sink`.
    """

    def __init__(
        self, sink: Sink, spans: Spans, rules: Sequence[JoinRule], first_row: int = 0
    ) -> None:
        self.has_written = False
        self._sink = sink
        self._spans = spans
        self._rules = rules
        self._first_row = first_row
        self._left = spans.counts.copy()
        self._has_come = np.zeros(len(spans), bool)  # some come twice, after an error
        self._under_way: dict[int, list[_Joined]] = {}

    def write(self, rows: Rows, pieces: Sequence[Piece]) -> int:
        """Take the pieces of some windows; count the rows of the caller's `X` done."""
        windows = as_indices(rows)
        own_rows = self._spans.rows[windows]
        counts = self._spans.counts[own_rows]
        alone = np.flatnonzero(counts == 1)
        n_done = 0
        if len(alone):
            pairs = zip(self._rules, pieces, strict=True)
            whole = [rule.at_its_end(_chosen(piece, alone)) for rule, piece in pairs]
            n_done += self._write_on(own_rows[alone], whole)
        if len(alone) == len(windows):
            return n_done
        fresh = np.flatnonzero((counts > 1) & ~self._has_come[windows])
        order = fresh[np.argsort(own_rows[fresh], kind="stable")]
        parted = [_by_window(piece, order) for piece in pieces]
        rows_there, starts = np.unique(own_rows[order], return_index=True)
        stops = [*starts[1:], len(order)]
        for row, start, stop in zip(rows_there, starts, stops, strict=False):
            own = [piece[start:stop] for piece in parted]
            self._add(int(row), windows[order[start:stop]], own)
        touched = np.unique(own_rows[counts > 1])
        return n_done + self._write_whole(touched[self._left[touched] == 0])

    def caller_rows(self, rows: Rows) -> Rows:
        """Return the rows of the caller's `X` that windows are of."""
        windows = as_indices(rows)
        own_rows = np.unique(self._spans.rows[windows])
        found = self._sink.caller_rows(own_rows + self._first_row)
        if len(windows) == 1 and self._spans.counts[own_rows[0]] > 1:
            name = self._spans.place(int(windows[0])).format(describe_rows(found))
            return NamedRows.of(found, name)
        return found

    def _add(self, row: int, windows: Indices, pieces: Sequence[_Parts]) -> None:
        """Add windows of one row to what came of others of it."""
        if row not in self._under_way:
            self._under_way[row] = [rule.begin() for rule in self._rules]
        for joined, piece in zip(self._under_way[row], pieces, strict=True):
            joined.add(piece, windows, self._spans)
        self._has_come[windows] = True
        self._left[row] -= len(windows)

    def _write_whole(self, rows: Indices) -> int:
        """Write rows of which all windows have come, vectors of several at once."""
        rows = rows[[row in self._under_way for row in rows]]
        has_tokens = any(rule.pool is None for rule in self._rules)
        parts = np.split(rows, len(rows)) if has_tokens and len(rows) else [rows]
        n_done = 0
        for part in parts:
            if not len(part):
                continue
            pieces = [
                self._whole([self._under_way[row][index] for row in part], rule)
                for index, rule in enumerate(self._rules)
            ]
            n_done += self._write_on(part, pieces)
            for row in part:
                del self._under_way[row]
        return n_done

    def _write_on(self, rows: Indices, pieces: Sequence[Piece]) -> int:
        """Hand whole rows on; count those of the caller's `X`."""
        n_done = self._sink.write(rows + self._first_row, pieces)
        self.has_written = True
        return n_done

    def _whole(self, joined: Sequence["_Joined"], rule: JoinRule) -> Piece:
        """Return the rows that were put together under one reading."""
        values = [one.value() for one in joined]
        if isinstance(joined[0], _EndToEnd):
            return Tokens(torch.cat(values), [len(value) for value in values])
        return rule.finished(torch.stack(values))


class _Joined(ABC):
    """What has come of the windows of one row."""

    @abstractmethod
    def add(self, parts: _Parts, windows: Indices, spans: Spans) -> None:
        """Add what came of some windows."""

    @abstractmethod
    def value(self) -> torch.Tensor:
        """Return what becomes of the row."""


class _Average(_Joined):
    """The mean, weighted."""

    def __init__(self) -> None:
        self._sum: torch.Tensor | None = None
        self._weight = 0
        self._dtype = torch.float32

    def add(self, parts: _Parts, windows: Indices, spans: Spans) -> None:
        """Add the vectors of some windows."""
        vectors = _together(parts)
        if not (vectors.is_floating_point() or vectors.is_complex()):
            raise _no_mean(vectors.dtype)
        weights = torch.from_numpy(spans.weights[windows])
        wide = vectors.to(torch.complex128 if vectors.is_complex() else torch.float64)
        own = torch.tensordot(weights.to(wide.dtype), wide, 1)
        self._sum = own if self._sum is None else self._sum + own
        self._weight += int(weights.sum())
        self._dtype = torch.float32 if vectors.dtype in _HALVES else vectors.dtype

    def value(self) -> torch.Tensor:
        """Return the mean."""
        assert self._sum is not None  # noqa: S101 - of a row with windows
        return (self._sum / self._weight).to(self._dtype)


class _Largest(_Joined):
    """The maximum."""

    def __init__(self) -> None:
        self._largest: torch.Tensor | None = None

    def add(self, parts: _Parts, windows: Indices, spans: Spans) -> None:
        """Compare the vectors of some windows with those before."""
        own = _together(parts).amax(0)
        if self._largest is not None:
            own = torch.maximum(self._largest, own)
        self._largest = own

    def value(self) -> torch.Tensor:
        """Return the maximum."""
        assert self._largest is not None  # noqa: S101 - of a row with windows
        return self._largest


class _Last(_Joined):
    """The last window's."""

    def __init__(self) -> None:
        self._window, self._vector = -1, torch.empty(0)

    def add(self, parts: _Parts, windows: Indices, spans: Spans) -> None:
        """Keep the vector of the last of some windows."""
        place = int(windows.argmax())
        if windows[place] > self._window:
            self._window, self._vector = windows[place], parts[place].clone()

    def value(self) -> torch.Tensor:
        """Return the vector of the last window."""
        return self._vector


class _EndToEnd(_Joined):
    """The tokens of all windows, overlapped ones once."""

    def __init__(self) -> None:
        self._tokens: dict[int, torch.Tensor] = {}

    def add(self, parts: _Parts, windows: Indices, spans: Spans) -> None:
        """Add the tokens of some windows."""
        for own, window in zip(parts, windows, strict=True):
            self._tokens[int(window)] = _once(own, int(window), spans)

    def value(self) -> torch.Tensor:
        """Return the tokens, in their order."""
        return torch.cat([self._tokens[window] for window in sorted(self._tokens)])


def _once(tokens: torch.Tensor, window: int, spans: Spans) -> torch.Tensor:
    """Leave out of a window's tokens what the window before has as well."""
    if not spans.overlap or spans.is_first(window):
        return tokens.clone()
    repeated, n_tokens = spans.overlap * spans.scale, spans.n_tokens(window)
    if repeated.denominator > 1 or len(tokens) != n_tokens:
        msg = (
            f"with `pooling`=None the {spans.overlap} {spans.unit} that windows share "
            "must be outputs of their own, to be taken once: the model returns "
            f"{len(tokens)} outputs for a window of "
            f"{spans.stops[window] - spans.starts[window]} {spans.unit}. Take "
            "`too_long`='windows', without an overlap, or name a `pooling`."
        )
        raise ValueError(msg)
    head = int(spans.heads[window])
    return torch.cat([tokens[:head], tokens[head + int(repeated) :]])


def _chosen(piece: Piece, places: Indices) -> Piece:
    """Return some rows of a batch."""
    if isinstance(piece, torch.Tensor):
        return piece[torch.from_numpy(places)]
    own = [piece.values[:0], *torch.split(piece.values, piece.lengths)]
    lengths = [piece.lengths[place] for place in places]
    return Tokens(torch.cat([own[place + 1] for place in places]), lengths)


def _by_window(piece: Piece, places: Indices) -> _Parts:
    """Return what came of the windows at some places of a batch, on the host."""
    if isinstance(piece, Tokens):
        parts = torch.split(piece.values, piece.lengths)
        return [parts[place].cpu() for place in places]
    return piece[torch.from_numpy(places)].cpu()


def _together(parts: _Parts) -> torch.Tensor:
    return parts if isinstance(parts, torch.Tensor) else torch.stack([*parts])


def _no_mean(dtype: torch.dtype) -> TypeError:
    msg = (
        f"windows must give floats, to be averaged, got {dtype}. Choose another "
        "`output` or `layer`, or cut long rows (`too_long`='cut')."
    )
    return TypeError(msg)
