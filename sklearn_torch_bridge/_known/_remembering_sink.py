"""TODO _known._remembering_sink."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sklearn_torch_bridge._convert import numpy_dtype, write_rows
from sklearn_torch_bridge._known._recall import Recall
from sklearn_torch_bridge._results import Sink
from sklearn_torch_bridge._row_numbers import count_rows
from sklearn_torch_bridge._types import Indices, Rows

__all__ = ["RememberingSink"]


class RememberingSink:
    """Puts each batch into a cache, then into another sink, if there is one.

    `which` are the rows that the feed holds, among those that have keys.
    """

    def __init__(
        self,
        recall: Recall,
        which: Indices,
        dtype: np.dtype[Any] | None,
        sink: Sink | None,
    ) -> None:
        self._recall = recall
        self._which = which
        self._dtype = dtype
        self._sink = sink

    def write(self, rows: Rows, pieces: list[torch.Tensor]) -> int:
        """Take the pieces of a batch."""
        self._recall.put(
            self._which[rows], [_to_array(piece, self._dtype) for piece in pieces]
        )
        if self._sink is None:
            return count_rows(rows)
        return self._sink.write(rows, pieces)

    def caller_rows(self, rows: Rows) -> Rows:
        """Give the rows of the caller's `X` that rows of the feed stand for."""
        return self._which[rows] if self._sink is None else self._sink.caller_rows(rows)


def _to_array(piece: torch.Tensor, dtype: np.dtype[Any] | None) -> NDArray[Any]:
    array = np.empty(tuple(piece.shape), dtype or numpy_dtype(piece.dtype))
    write_rows(array, slice(0, len(piece)), piece)
    return array
