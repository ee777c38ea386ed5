"""Where results go: one array, allocated once."""

import ctypes
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sklearn_torch_bridge._convert import is_of, result_dtype, write_rows
from sklearn_torch_bridge._free_memory import check_fits
from sklearn_torch_bridge._row_numbers import count_rows
from sklearn_torch_bridge._types import Indices, Rows

__all__ = ["ArraySink"]


class ArraySink:
    """An array of `n_samples` rows that takes its shape from the first batch.

    `expect` tells for each row of the array which row of the feed it shows (-1: none);
    before, and with None, they are the same.
    """

    def __init__(self, n_samples: int, dtype: np.dtype[Any] | None) -> None:
        self._n_samples = n_samples
        self._dtype = dtype
        self._places: _Places | None = None
        self.array: NDArray[Any] | None = None
        self.widths: tuple[int, ...] = ()
        self._usual: _Usual | None = None  # of a batch that was checked in full

    def expect(self, origin: Indices | None) -> None:
        """Take rows of the feed for those rows of the array that `origin` says."""
        self._places = None if origin is None else _Places(origin)
        self._usual = None

    def allocate(
        self, shapes: list[tuple[int, ...]], dtype: np.dtype[Any]
    ) -> NDArray[Any]:
        """Make the array, for pieces of a row of these shapes side by side."""
        self.widths = tuple(shape[-1] if shape else 1 for shape in shapes)
        shape = shapes[0] if len(shapes) == 1 else (sum(self.widths),)
        self.array = self._make((self._n_samples, *shape), self._dtype or dtype)
        return self.array

    def write(self, rows: Rows, pieces: list[torch.Tensor]) -> int:
        """Put the pieces of a batch, one a layer, side by side into their rows."""
        if self.array is None:
            shapes = [tuple(piece.shape[1:]) for piece in pieces]
            dtypes = (result_dtype(piece.dtype, self._dtype) for piece in pieces)
            self.allocate(shapes, np.result_type(*dtypes))
        elif self._usual is not None and self._write_alike(self._usual, rows, pieces):
            return len(pieces[0])
        assert self.array is not None  # noqa: S101 - made above
        self.widths = self.widths or tuple(piece.shape[-1] for piece in pieces)
        source = None
        if self._places is not None:
            rows, source = self._places.of(rows)
        start = 0
        for piece, width in zip(pieces, self.widths, strict=True):
            single = len(pieces) == 1
            target = self.array if single else self.array[:, start : start + width]
            write_rows(target, rows, piece if source is None else piece[source])
            start += width
        if len(pieces) == 1 and self._places is None:
            self._usual = _usual(self.array, pieces[0])
        return count_rows(rows)

    def _write_alike(
        self, usual: "_Usual", rows: Rows, pieces: list[torch.Tensor]
    ) -> bool:
        """Write a batch like the one before without checking all again.

        The checks of `write_rows` take as long as a small model takes for 20 rows.
        """
        if type(rows) is not slice:
            return False
        piece, n_rows = pieces[0], rows.stop - rows.start
        alike = (
            rows.stop <= usual.n_rows
            and piece.dtype is usual.dtype
            and piece.shape == (n_rows, *usual.row_shape)
            and type(piece) is torch.Tensor
            and piece.is_cpu
            and piece.is_contiguous()
            and not piece.is_neg()
        )
        if alike:
            # Not `copy_`, which starts threads for it; not `piece.numpy()`, which
            # would lock the storage of a model that returns its own weights.
            target = usual.address + rows.start * usual.row_bytes
            ctypes.memmove(target, piece.data_ptr(), n_rows * usual.row_bytes)
        return alike

    def caller_rows(self, rows: Rows) -> Rows:
        """Give the rows of the caller's `X` that rows of the feed stand for."""
        return rows if self._places is None else self._places.of(rows)[0]

    def place(self, rows: Indices, pieces: list[NDArray[Any]]) -> None:
        """Put pieces that are arrays already where `write` would."""
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


class _Usual(NamedTuple):
    """What batches are like whose bytes are those of their rows of the result."""

    dtype: torch.dtype
    n_rows: int  # of the result
    row_shape: tuple[int, ...]
    row_bytes: int
    address: int


def _usual(array: NDArray[Any], piece: torch.Tensor) -> _Usual | None:
    """Tell it of a result; None where values are cast on their way in."""
    if not (is_of(array.dtype, piece.dtype) and array.flags.c_contiguous):
        return None
    n_rows, *row_shape = array.shape
    row_bytes = math.prod(row_shape) * array.itemsize
    place = array.ctypes.data
    return _Usual(piece.dtype, n_rows, tuple(row_shape), row_bytes, place)


class _Places:
    """For each row of a feed, the rows of the result that show it."""

    def __init__(self, origin: Indices) -> None:
        shown = origin[origin >= 0]
        self._order = np.argsort(origin, kind="stable")[len(origin) - len(shown) :]
        counts = np.bincount(shown)
        self._stops = np.cumsum(counts)
        self._starts = self._stops - counts

    def of(self, rows: Rows) -> tuple[Indices, torch.Tensor]:
        """Give the places of `rows`, and for each place its position in `rows`."""
        starts, stops = self._starts[rows], self._stops[rows]
        places = [
            self._order[start:stop] for start, stop in zip(starts, stops, strict=True)
        ]
        source = np.repeat(np.arange(len(starts)), stops - starts)
        return np.concatenate(places), torch.from_numpy(source)
