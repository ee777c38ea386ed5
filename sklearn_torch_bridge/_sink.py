"""Where results go: one array, allocated once."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sklearn_torch_bridge._convert import numpy_dtype, write_rows
from sklearn_torch_bridge._types import Indices, Rows

__all__ = ["ArraySink"]


class ArraySink:
    """An array of `n_samples` rows that takes its shape from the first batch.

    `origin` tells for each row of the array which row of the feed it shows; None
    where they are the same.
    """

    def __init__(
        self, n_samples: int, dtype: np.dtype[Any] | None, origin: Indices | None = None
    ) -> None:
        self._n_samples = n_samples
        self._dtype = dtype
        self._places = None if origin is None else _Places(origin)
        self.array: NDArray[Any] | None = None
        self._shapes: list[torch.Size] = []

    def write(self, rows: Rows, pieces: list[torch.Tensor]) -> None:
        """Put the pieces of a batch, one a layer, side by side into their rows."""
        if self.array is None:
            self.array = self._allocate(pieces)
        source = None
        if self._places is not None:
            rows, source = self._places.of(rows)
        start = 0
        for piece, shape in zip(pieces, self._shapes, strict=True):
            if piece.shape[1:] != shape:
                msg = (
                    f"the model must return rows of one shape, got "
                    f"{tuple(piece.shape[1:])} after {tuple(shape)}. Pool rows of "
                    "different length with 'mean', 'max' or 'last'."
                )
                raise ValueError(msg)
            target = self.array
            if len(pieces) > 1:
                target = target[:, start : start + shape[0]]
                start += shape[0]
            write_rows(target, rows, piece if source is None else piece[source])

    def caller_rows(self, rows: Rows) -> Rows:
        """Give the rows of the caller's `X` that rows of the feed stand for."""
        return rows if self._places is None else self._places.of(rows)[0]

    @property
    def widths(self) -> tuple[int, ...]:
        """Columns of each piece."""
        return tuple(shape[-1] for shape in self._shapes)

    def _allocate(self, pieces: list[torch.Tensor]) -> NDArray[Any]:
        self._shapes = [piece.shape[1:] for piece in pieces]
        shape = self._shapes[0] if len(pieces) == 1 else (sum(self.widths),)
        dtype = self._dtype or np.result_type(*(numpy_dtype(p.dtype) for p in pieces))
        return np.empty((self._n_samples, *shape), dtype)


class _Places:
    """For each row of a feed, the rows of the result that show it."""

    def __init__(self, origin: Indices) -> None:
        self._order = np.argsort(origin, kind="stable")
        counts = np.bincount(origin)
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
