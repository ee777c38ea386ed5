"""Whether padding changes the vector of a row: tried on some rows, and remembered.

No signature tells: models swallow a mask with ``**kwargs``, or take one and still let
padding through, by convolutions, positions, or a pooling of their own.
"""

import inspect
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sklearn_torch_bridge._devices import float_dtype
from sklearn_torch_bridge._replica import (
    Reader,
    ReadError,
    Reading,
    RunAgainError,
    findings_of,
    replica,
    taps,
)
from sklearn_torch_bridge._rows import Feed
from sklearn_torch_bridge._run._autocast import autocast_for
from sklearn_torch_bridge._run._inputs_on_device import on_device
from sklearn_torch_bridge._run._second_look import SecondLook
from sklearn_torch_bridge._run._threads import Threads
from sklearn_torch_bridge._types import (
    Indices,
    Inputs,
    Piece,
    Tokens,
    UnevenBatchError,
)

__all__ = ["PaddingTrial"]

_ROWS = 4  # that are tried
_MOST_KNOWN = 256  # trials of one module
# Rounding, in units of the dtype, of the largest value of a vector: kernels differ by
# shape. In half types a leak may be as small as that.
_ROUNDINGS, _HALF_ROUNDINGS, _HALF_EPS = 256, 2, 1e-4

_KNOWN: WeakKeyDictionary[nn.Module, dict[Hashable, bool]] = WeakKeyDictionary()


@dataclass(frozen=True)
class PaddingTrial:
    """Some rows, run alone and beside longer ones, as a model is to be read.

    They run in the dtype of the model, where rounding hides less than in autocast.
    """

    module: nn.Module
    readings: tuple[Reading, ...]
    device: torch.device
    n_threads: int = 0  # that prepare rows; 0: the caller's

    def changes(self, feed: Feed) -> bool:
        """Return whether a row beside longer ones has another vector than alone.

        Where that cannot be tried, since the rows chosen fail, it may.
        """
        if feed.even or len(feed) == 1:
            return False
        rows, sizes = _rows_of_one_group(feed)
        if sizes is not None and sizes.min() == sizes.max():
            if feed.lengths_are_exact:
                return False
            sizes = None
        known = _KNOWN.setdefault(self.module, {})
        try:
            model = self._name(feed)
            # A leak may show only in short rows, or beside much longer ones.
            trial = (model, () if sizes is None else _extent(sizes))
            if not known.get(model) and trial not in known:
                changes = self._run(feed, rows[_some_rows(len(rows), sizes)])
                if len(known) > _MOST_KNOWN:
                    known.clear()
                known[trial] = known[model] = changes
            return known[model] or known[trial]
        except (UnevenBatchError, ReadError):  # the run will meet it as well
            return False
        except Exception:  # noqa: BLE001 - the run will meet it, and name the row
            return True

    @property
    def _layers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one.layer for one in self.readings))

    def _name(self, feed: Feed) -> Hashable:
        """Return what tells the trials of a module apart, besides lengths of rows."""
        read = [(one.layer, one.output, _weakly(one.pool)) for one in self.readings]
        by = _weakly(feed.padded_by)
        return by, str(self.device), tuple(read)

    def _run(self, feed: Feed, rows: Indices) -> bool:
        try:
            alone, together = self._prepare(feed, rows)
        except Exception:  # noqa: BLE001 - the run will meet it, and name the row
            return False
        longest = list(_shapes(together))
        if all(list(_shapes(inputs)) == longest for inputs in alone):
            return False
        while True:
            with suppress(RunAgainError):  # with a replica that fits the model better
                return self._tell_apart(feed, rows, alone, together)
            if findings_of(self.module).needs_rows_alone(self._layers):
                return False  # and so they are not padded

    def _tell_apart(
        self, feed: Feed, rows: Indices, alone: list[Inputs], together: Inputs
    ) -> bool:
        reader, layers = (
            Reader(self.readings, findings_of(self.module).kept),
            self._layers,
        )
        roundings = _roundings(float_dtype(self.module))
        longest = list(_shapes(together))
        with (
            replica(self.module, self.device) as lent,
            taps(lent.module, layers, reader.read) as call,
            torch.inference_mode(),
            autocast_for(lent.place, None),
        ):
            lent.forwards.begin(layers, False, False)
            look = SecondLook(self.module, lent, layers, reader, call, feed)

            def results(inputs: Inputs, n_rows: int) -> list[Sequence[torch.Tensor]]:
                inputs = on_device(inputs, lent.place)
                reader.begin(inputs.mask, n_rows, inputs.n_prompt)
                lent.forwards.run(call, inputs, n_rows)
                if reader.waiting:
                    look.at(rows[:n_rows])
                return [*map(_by_row, reader.take(n_rows))]

            # Alone first: lengths that differ show which axis has the tokens.
            by_itself = [
                (row, results(inputs, 1))
                for row, inputs in enumerate(alone)
                if list(_shapes(inputs)) != longest
            ]
            beside = results(together, len(alone))
            return any(
                _are_apart(one[0], other[row], roundings)
                for row, own in by_itself
                for one, other in zip(own, beside, strict=True)
            )

    def _prepare(self, feed: Feed, rows: Indices) -> tuple[list[Inputs], Inputs]:
        """Prepare each row alone, and all in one batch, where rows are prepared."""

        def prepare() -> tuple[list[Inputs], Inputs]:
            alone, usable = [], []
            for row in rows:
                with suppress(Exception):  # the run will meet it, and name the row
                    alone.append(feed.batch(np.array([row])))
                    usable.append(row)
            return alone, feed.batch(np.array(usable, np.intp))

        if not self.n_threads:
            return prepare()
        threads = Threads(1)
        try:
            prepared = threads.begin(prepare)()
            threads.end()
        except BaseException:
            threads.end()
            raise
        return prepared


def _weakly(value: Any) -> Hashable:
    """Return what is equal for the same object alone, and does not keep it alive."""
    if value is None or isinstance(value, str):
        return value
    if inspect.ismethod(value):
        return weakref.WeakMethod(value)
    return _Same(value)


class _Same:
    """An object, held weakly where it can be, that is equal to itself alone."""

    def __init__(self, value: Any) -> None:
        self._id = id(value)
        try:
            self._get: Callable[[], Any] = weakref.ref(value)
        except TypeError:  # of a class with slots
            self._get = lambda: value

    def __hash__(self) -> int:
        return self._id

    def __eq__(self, other: object) -> bool:
        value = self._get()
        return isinstance(other, _Same) and value is not None and value is other._get()


def _rows_of_one_group(feed: Feed) -> tuple[Indices, NDArray[np.int64] | None]:
    """Return rows that may share a batch, and their sizes: those that differ most."""
    sizes = feed.sizes
    if feed.groups is None or sizes is None:
        return np.arange(len(feed)), sizes
    groups = [np.flatnonzero(feed.groups == one) for one in np.unique(feed.groups)]
    rows = max(groups, key=lambda own: np.ptp(sizes[own]))
    return rows, sizes[rows]


def _extent(sizes: NDArray[np.int64]) -> tuple[int, int]:
    """Return about how long the shortest and the longest row are."""
    return int(sizes.min()).bit_length(), int(sizes.max()).bit_length()


def _some_rows(n_rows: int, sizes: NDArray[np.int64] | None) -> Indices:
    """Choose the longest row, some between, and the shortest that is not empty.

    Where nothing says how long they are, some from all over.

    >>> _some_rows(5, np.array([2, 0, 7, 2, 4]))
    array([2, 4, 0])
    """
    if sizes is None:
        return np.unique(np.linspace(0, n_rows - 1, _ROWS).astype(np.intp))
    order = np.argsort(-sizes, kind="stable")
    order = order[sizes[order] > 0]
    some = order[np.linspace(0, len(order) - 1, _ROWS).astype(np.intp)]
    return some[np.unique(-sizes[some], return_index=True)[1]]


def _shapes(value: Any) -> Iterator[tuple[int, ...]]:
    """Yield the shape of one row, of all tensors in the inputs of a model."""
    if isinstance(value, Inputs):
        yield from _shapes((value.args, value.kwargs))
    elif isinstance(value, torch.Tensor):
        yield tuple(value.shape[1:])
    elif isinstance(value, Mapping):
        yield from _shapes(tuple(value.values()))
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _shapes(part)


def _by_row(piece: Piece) -> Sequence[torch.Tensor]:
    """Return the result of each row."""
    if isinstance(piece, Tokens):
        return torch.split(piece.values, piece.lengths)
    return piece.unbind()


def _roundings(dtype: torch.dtype) -> float:
    """Return how far vectors may differ by rounding, for a largest value of 1."""
    eps = torch.finfo(dtype).eps
    return eps * (_HALF_ROUNDINGS if eps > _HALF_EPS else _ROUNDINGS)


def _are_apart(alone: torch.Tensor, padded: torch.Tensor, roundings: float) -> bool:
    """Return whether two vectors of a row differ by more than rounding.

    Where all axes are kept, padding has made the second longer.

    >>> _are_apart(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.1, 0.0]), 0.01)
    True
    """
    padded = padded[tuple(slice(size) for size in alone.shape)]
    if padded.shape != alone.shape:
        return True
    wide = torch.complex128 if alone.is_complex() else torch.float64
    one, other = alone.cpu().to(wide), padded.cpu().to(wide)
    differs = ~((one == other) | (one.isnan() & other.isnan()))
    if not differs.any():
        return False
    finite = one[one.isfinite()].abs()
    largest = finite.max() if len(finite) else 0.0
    # Not the other way round: NaN is beyond every bound.
    return not bool(((one - other).abs()[differs] <= roundings * largest).all())
