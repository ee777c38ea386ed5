"""Results that may differ in shape from row to row: one array a row, where they do."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_torch_bridge._convert import result_dtype, write_rows
from sklearn_torch_bridge._results._array_sink import ArraySink, even_rows
from sklearn_torch_bridge._row_numbers import as_indices, count_rows
from sklearn_torch_bridge._types import Piece, Rows, Tokens

__all__ = ["EntriesSink", "entries_of"]

_TWO_AXES = 2


class EntriesSink(ArraySink):
    """An array of rows, or an array of objects with an array for each row.

    It becomes one of objects with the first row of another shape; at once for `tokens`
    of rows under a mask, and for `all_rows` of more than one axis, where what they are
    does not depend on the rows beside them.
    """

    def __init__(
        self,
        n_samples: int,
        dtype: np.dtype[Any] | None,
        *,
        tokens: bool = False,
        all_rows: bool = False,
    ) -> None:
        super().__init__(n_samples, dtype)
        self._tokens = tokens
        self._all_rows = all_rows
        self._like: NDArray[Any] | None = None  # an entry without tokens
        self._done = np.zeros(n_samples, bool)

    @property
    def value_dtype(self) -> np.dtype[Any]:
        """The dtype of the values, which objects hold."""
        return super().value_dtype if self._like is None else self._like.dtype

    def allocate(
        self, shapes: list[tuple[int, ...]], dtype: np.dtype[Any]
    ) -> NDArray[Any]:
        """Make the array; a row without tokens stands for rows of any length."""
        if len(shapes[0]) >= _TWO_AXES and not shapes[0][0]:
            return self._begin_entries(np.empty(shapes[0], self._dtype or dtype))
        return super().allocate(shapes, dtype)

    def _write_pieces(self, rows: Rows, pieces: Sequence[Piece]) -> int:
        own = any(isinstance(piece, Tokens) for piece in pieces)
        if not self._tokens:
            pieces = [even_rows(piece) for piece in pieces]
        if self._takes_entries(pieces, own=own):
            entries = [entries_of(piece, self._dtype) for piece in pieces]
            self._put(rows, entries)
            return count_rows(rows)
        n_rows = super()._write_pieces(rows, pieces)
        self._done[self.caller_rows(rows)] = True
        return n_rows

    def _place_pieces(self, rows: Any, pieces: Sequence[Any]) -> None:
        if not self._tokens:
            pieces = [even_rows(piece) for piece in pieces]
        if self._takes_entries(pieces, own=True):
            self._put(rows, pieces)
        else:
            super()._place_pieces(rows, pieces)

    def fill(self, places: Rows, value: Any) -> None:
        """Set rows of the caller's `X`; one of entries to a single token."""
        if self._like is None:
            super().fill(places, value)
            self._done[places] = True
            return
        assert self.array is not None  # noqa: S101 - with the first entry
        shape, dtype = (1, *self._like.shape[1:]), self._like.dtype
        for place in as_indices(places):
            self.array[place] = np.full(shape, value, dtype)

    def _takes_entries(self, pieces: Sequence[Any], *, own: bool) -> bool:
        """Return whether these pieces, which no other row has changed, are kept apart.

        Rows of another shape are their `own` under a mask. Else a batch may have padded
        them, which shows in no shape.
        """
        if self._like is not None or not all(hasattr(one, "ndim") for one in pieces):
            return True
        has_axes = any(piece.ndim > _TWO_AXES for piece in pieces)
        if has_axes and (self._all_rows or len(pieces) > 1):
            return True
        differs = self.array is not None and pieces[0].shape[1:] != self.array.shape[1:]
        return has_axes and differs and (own or self.keeps_shape())

    def _put(self, rows: Rows, pieces: Sequence[Any]) -> None:
        """Copy entries, of several layers side by side, to their places."""
        places, source = as_indices(rows), [*range(count_rows(rows))]
        if self._places is not None:
            found, origin = self._places.of(rows)
            places, source = as_indices(found), origin.tolist()
        for place, row in zip(places, source, strict=True):
            entry = _side_by_side([piece[row] for piece in pieces], place)
            array = self._begin_entries(entry[:0]) if self._like is None else self.array
            assert array is not None  # noqa: S101 - with the first entry
            array[place] = entry

    def _begin_entries(self, like: NDArray[Any]) -> NDArray[Any]:
        """Turn the array into one of objects, with the rows that it has already."""
        before, self._like, self._view = self.array, like, None
        self.array = np.empty(self._n_samples, object)
        if before is not None:
            for row in np.flatnonzero(self._done):
                self.array[row] = before[row].copy()
        return self.array


def entries_of(piece: Piece, dtype: np.dtype[Any] | None) -> list[NDArray[Any]]:
    """Convert a piece to an array for each row, views of one."""
    values = piece.values if isinstance(piece, Tokens) else piece
    whole = np.empty(tuple(values.shape), dtype or result_dtype(values.dtype))
    write_rows(whole, slice(0, len(whole)), values)
    if not isinstance(piece, Tokens):
        return list(whole)
    return np.split(whole, np.cumsum(piece.lengths)[:-1])


def _side_by_side(parts: list[Any], row: int) -> NDArray[Any]:
    """Return an own copy of what layers gave for a row: their features side by side."""
    if len({part.shape[:-1] for part in parts}) > 1 or not parts[0].ndim:
        shapes = ", ".join(str(part.shape) for part in parts)
        msg = (
            "with `pooling`=None several layers must give as many tokens each, to be "
            f"put side by side, but those of row {row} have shapes {shapes}. Tap one "
            "`layer` at a time, or name a `pooling`."
        )
        raise ValueError(msg)
    return np.array(parts[0]) if len(parts) == 1 else np.concatenate(parts, axis=-1)
