"""Look rows up in a cache, so that only the others run; store each batch in it."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sklearn_torch_bridge._convert import result_dtype, write_rows
from sklearn_torch_bridge._digest import cache_keys
from sklearn_torch_bridge._results import Sink
from sklearn_torch_bridge._row_numbers import as_indices, count_rows
from sklearn_torch_bridge._types import Indices, Rows
from sklearn_torch_bridge.cache import EmbeddingCache

__all__ = ["Recall", "RememberingSink", "cache_at"]

_CACHES: dict[str, EmbeddingCache] = {}
_LOCK = threading.Lock()
_ROWS_AT_ONCE = 4_096
_MODEL_BYTES = 16


def cache_at(path: str | os.PathLike[str]) -> EmbeddingCache:
    """Return the one cache object of this process for a path."""
    place = os.path.abspath(path)  # noqa: PTH100 - links stay: the path is the user's
    with _LOCK:
        return _CACHES.setdefault(place, EmbeddingCache(place))


@dataclass(eq=False)
class Recall:
    """The cached vectors of some rows under several readings: one a row and reading.

    `fingerprints` are those of the model with each reading, `contents` the
    `content_digests` of the rows, and `model` is the fingerprint of the model alone.
    """

    store: EmbeddingCache
    fingerprints: Sequence[bytes]
    contents: Sequence[bytes]
    model: bytes

    def found(self, which: Indices) -> Iterator[tuple[Indices, list[NDArray[Any]]]]:
        """Yield rows of `which` that are cached under all readings, and the vectors."""
        outs: list[NDArray[Any] | None] = [None] * len(self.fingerprints)
        for start in range(0, len(which), _ROWS_AT_ONCE):
            rows = which[start : start + _ROWS_AT_ONCE]
            known = np.ones(len(rows), bool)
            for place, fingerprint in enumerate(self.fingerprints):
                keys = self._keys(fingerprint, rows)
                outs[place], hits = self._look_up(keys, outs[place])
                known &= hits
            if known.any():
                pieces = [out[: len(rows)][known] for out in outs if out is not None]
                yield rows[known], pieces

    def put(self, rows: Rows, pieces: Sequence[NDArray[Any]]) -> None:
        """Store the vectors of rows, one array a reading."""
        places = as_indices(rows)
        for fingerprint, piece in zip(self.fingerprints, pieces, strict=True):
            keys = self._keys(fingerprint, places)
            self.store.put_many(keys, piece, model=self.model[:_MODEL_BYTES])

    def _look_up(
        self, keys: list[bytes], out: NDArray[Any] | None
    ) -> tuple[NDArray[Any] | None, NDArray[np.bool_]]:
        """Look rows up under one reading; the first hit decides dtype and shape."""
        if out is not None:
            return out, self.store.get_into(keys, out[: len(keys)])
        vectors = self.store.get_many(keys)
        like = next((vector for vector in vectors if vector is not None), None)
        hits = np.zeros(len(keys), bool)
        if like is None:
            return None, hits
        out = np.empty((_ROWS_AT_ONCE, *like.shape), like.dtype)
        for position, vector in enumerate(vectors):
            if vector is not None and vector.shape == like.shape:
                out[position] = vector
                hits[position] = True
        return out, hits

    def _keys(self, fingerprint: bytes, rows: Indices) -> list[bytes]:
        return cache_keys([self.contents[row] for row in rows], fingerprint)


@dataclass(eq=False)
class RememberingSink:
    """A sink that stores batches in a cache and writes them to `sink`, if there is one.

    `which` are the rows that the feed holds, among those that have keys; `rows_of`
    returns the rows of the caller's `X` that rows of the feed stand for.
    """

    recall: Recall
    which: Indices
    dtype: np.dtype[Any] | None
    sink: Sink | None
    rows_of: Callable[[Rows], Rows]

    def write(self, rows: Rows, pieces: list[torch.Tensor]) -> int:
        """Write the pieces of a batch; count the rows of the caller's `X` done."""
        arrays = [_to_array(piece, self.dtype) for piece in pieces]
        self.recall.put(self.which[rows], arrays)
        return self.sink.write(rows, pieces) if self.sink else count_rows(rows)

    def caller_rows(self, rows: Rows) -> Rows:
        """Return the rows of the caller's `X` that rows of the feed stand for."""
        return self.rows_of(rows)


def _to_array(piece: torch.Tensor, dtype: np.dtype[Any] | None) -> NDArray[Any]:
    array = np.empty(tuple(piece.shape), dtype or result_dtype(piece.dtype))
    write_rows(array, slice(0, len(piece)), piece)
    return array
