"""Results in one array, allocated once."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sklearn_torch_bridge._convert import (
    copy_values,
    is_same_float,
    result_dtype,
    write_rows,
)
from sklearn_torch_bridge._free_memory import check_fits
from sklearn_torch_bridge._results._first_columns import FirstColumns
from sklearn_torch_bridge._row_numbers import count_rows, describe_rows
from sklearn_torch_bridge._tensor_bytes import lacks_memory
from sklearn_torch_bridge._types import Indices, Piece, Rows, Tokens

__all__ = ["ArraySink", "even_rows"]


class ArraySink:
    """An array of `n_samples` rows that takes its shape from the first batch.

    `expect` sets for each row of the array the row of the feed that it shows (-1:
    none); before, and with None, they are the same. `keeps_shape` returns whether no
    row of the feed is padded to those beside it without a mask. Of what is written and
    placed only the `first_columns` are kept, if that is set.
    """

    keeps_shape: Callable[[], bool] = bool
    first_columns: FirstColumns | None = None

    def __init__(self, n_samples: int, dtype: np.dtype[Any] | None) -> None:
        self._n_samples = n_samples
        self._dtype = dtype
        self._places: _Places | None = None
        self.array: NDArray[Any] | None = None
        self.widths: tuple[int, ...] = ()
        self._view: torch.Tensor | None = None  # once a batch was checked in full

    def expect(self, origin: Indices | None) -> None:
        """Set which row of the feed each row of the array shows."""
        self._places = None if origin is None else _Places(origin)
        self._view = None

    def allocate(
        self, shapes: list[tuple[int, ...]], dtype: np.dtype[Any]
    ) -> NDArray[Any]:
        """Make the array, for pieces of a row of these shapes side by side."""
        self.widths = tuple(shape[-1] if shape else 1 for shape in shapes)
        shape = shapes[0] if len(shapes) == 1 else (sum(self.widths),)
        self.array = self._make((self._n_samples, *shape), self._dtype or dtype)
        return self.array

    def cuts(self) -> tuple[NDArray[np.int64] | None, str]:
        """Return how long rows were that had been cut before, and at what limit."""
        return None, ""

    def note_cuts(self, lengths: NDArray[np.int64], limit: str) -> None:
        """Note how long rows were that are cut, where that outlives the call."""

    def release(self) -> None:
        """Let go of the array."""
        self.array = self._view = None

    @property
    def value_dtype(self) -> np.dtype[Any]:
        """The dtype of the values, once there are any."""
        assert self.array is not None  # noqa: S101 - allocated by then
        return self.array.dtype

    def write(self, rows: Rows, pieces: Sequence[Piece]) -> int:
        """Put the pieces of a batch, one a layer, side by side into their rows."""
        return self._write_pieces(rows, self._narrow(pieces))

    def _narrow(self, pieces: Sequence[Any]) -> Sequence[Any]:
        return pieces if self.first_columns is None else self.first_columns(pieces)

    def _write_pieces(self, rows: Rows, pieces: Sequence[Piece]) -> int:
        if self._view is not None and _write_alike(self._view, rows, pieces[0]):
            return len(pieces[0])
        return self._write([_tensor_of(piece) for piece in pieces], rows)

    def _write(self, pieces: list[torch.Tensor], rows: Rows) -> int:
        array = self.array
        if array is None:
            shapes = [tuple(piece.shape[1:]) for piece in pieces]
            dtypes = (result_dtype(piece.dtype, self._dtype) for piece in pieces)
            array = self.allocate(shapes, np.result_type(*dtypes))
        self.widths = self.widths or tuple(piece.shape[-1] for piece in pieces)
        source = None
        if self._places is not None:
            rows, source = self._places.of(rows)
        start, single = 0, len(pieces) == 1
        for piece, width in zip(pieces, self.widths, strict=True):
            target = array if single else array[:, start : start + width]
            if piece.shape[1:] != target.shape[1:]:
                raise _other_shape(rows, piece, target)
            write_rows(target, rows, piece if source is None else piece[source])
            start += width
        if single and source is None:
            same = is_same_float(array.dtype, pieces[0].dtype)
            self._view = torch.from_numpy(array) if same else None
        return count_rows(rows)

    def caller_rows(self, rows: Rows) -> Rows:
        """Return the rows of the caller's `X` that rows of the feed stand for."""
        return rows if self._places is None else self._places.of(rows)[0]

    def place(self, rows: Indices, pieces: Sequence[Any]) -> None:
        """Put pieces that are arrays already where `write` would."""
        self._place_pieces(rows, self._narrow(pieces))

    def _place_pieces(self, rows: Indices, pieces: Sequence[Any]) -> None:
        pieces = [_array_of(piece) for piece in pieces]
        if self.array is None:
            dtype = np.result_type(*(piece.dtype for piece in pieces))
            self.allocate([piece.shape[1:] for piece in pieces], dtype)
        whole = pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)
        if self._places is None:
            self.fill(rows, whole)
        else:
            places, source = self._places.of(rows)
            self.fill(places, whole[source.numpy()])

    def fill(self, places: Rows, value: Any) -> None:
        """Set rows of the caller's `X`: to what is known of them, or to NaN."""
        assert self.array is not None  # noqa: S101 - allocated by then
        self.array[places] = value

    def _make(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        check_fits(shape, dtype)
        return np.empty(shape, dtype)


def _other_shape(rows: Rows, piece: torch.Tensor, target: NDArray[Any]) -> ValueError:
    """Return the error for results that differ in shape from row to row."""
    msg = (
        f"every row must have results of one shape, {target.shape[1:]} as those "
        f"before, but those of {describe_rows(rows)} of `X` have another: got "
        f"{tuple(piece.shape)}. Pool rows of different length or size to one width: "
        "`pooling`='mean', or 'gap' where the channels come first."
    )
    return ValueError(msg)


def even_rows(piece: Any) -> Any:
    """Put rows that are all of one length into one tensor, or array; else return them.

    >>> even_rows(Tokens(torch.arange(4), [2, 2]))
    tensor([[0, 1],
            [2, 3]])
    """
    if isinstance(piece, list):
        is_even = len(piece[0]) and len({row.shape for row in piece}) == 1
        return np.stack(piece) if is_even else piece
    if isinstance(piece, Tokens) and len(set(piece.lengths)) == 1 and piece.lengths[0]:
        return piece.values.reshape(len(piece), -1, *piece.values.shape[1:])
    return piece


def _tensor_of(piece: Piece) -> torch.Tensor:
    even = even_rows(piece)
    if isinstance(even, Tokens):
        raise _uneven(even.lengths)
    tensor: torch.Tensor = even
    return tensor


def _array_of(piece: Any) -> NDArray[Any]:
    even = even_rows(piece)
    if isinstance(even, list):
        raise _uneven([len(row) for row in even])
    array: NDArray[Any] = even
    return array


def _uneven(lengths: Sequence[int]) -> ValueError:
    msg = (
        "rows in one array, or in a file, must have as many tokens each, got "
        f"{min(lengths)} to {max(lengths)} with `pooling`=None. Name a `pooling`, or "
        "call `transform`, which gives an array for each row."
    )
    return ValueError(msg)


def _write_alike(view: torch.Tensor, rows: Rows, piece: Piece) -> bool:
    """Write a batch like the one before without checking all again.

    The checks of `write_rows` take as long as a small model takes for 10 rows.
    """
    if type(rows) is not slice or type(piece) is not torch.Tensor:
        return False
    target = view[rows]
    alike = piece.dtype is target.dtype and piece.shape == target.shape
    alike = alike and not lacks_memory(piece)
    if alike:
        copy_values(target, piece)
    return alike


class _Places:
    """For each row of a feed, the rows of the result that show it."""

    def __init__(self, origin: Indices) -> None:
        shown = origin[origin >= 0]
        self._order = np.argsort(origin, kind="stable")[len(origin) - len(shown) :]
        counts = np.bincount(shown)
        self._stops = np.cumsum(counts)
        self._starts = self._stops - counts

    def of(self, rows: Rows) -> tuple[Indices, torch.Tensor]:
        """Return the places of `rows`, and for each place its position in `rows`."""
        starts, stops = self._starts[rows], self._stops[rows]
        places = [
            self._order[start:stop] for start, stop in zip(starts, stops, strict=True)
        ]
        source = np.repeat(np.arange(len(starts)), stops - starts)
        return np.concatenate(places), torch.from_numpy(source)
