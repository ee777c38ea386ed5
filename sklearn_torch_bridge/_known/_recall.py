"""Rows that a cache has, so that only the others run; and new rows into the cache."""

import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_torch_bridge._row_numbers import as_indices
from sklearn_torch_bridge._types import Indices, Rows
from sklearn_torch_bridge.cache import EmbeddingCache

__all__ = ["Recall", "cache_at"]

_CACHES: dict[str, EmbeddingCache] = {}
_LOCK = threading.Lock()
_AT_ONCE = 4_096
_MODEL_BYTES = 16


def cache_at(path: str | os.PathLike[str]) -> EmbeddingCache:
    """Give the one cache object of this process for a path."""
    place = os.path.abspath(path)  # noqa: PTH100 - links stay: the path is the user's
    with _LOCK:
        return _CACHES.setdefault(place, EmbeddingCache(place))


class Recall:
    """The keys of rows under several readings: one key a row and reading.

    `fingerprints` are of the model with each reading, `contents` of the rows.
    """

    def __init__(
        self,
        store: EmbeddingCache,
        fingerprints: Sequence[bytes],
        contents: Sequence[bytes],
        model: bytes,
    ) -> None:
        self._store = store
        self._fingerprints = fingerprints
        self._contents = contents
        self._model = model[:_MODEL_BYTES]

    def found(self, which: Indices) -> Iterator[tuple[Indices, list[NDArray[Any]]]]:
        """Yield rows of `which` that are known under all readings, and their pieces."""
        outs: list[NDArray[Any] | None] = [None] * len(self._fingerprints)
        for start in range(0, len(which), _AT_ONCE):
            rows = which[start : start + _AT_ONCE]
            known = np.ones(len(rows), bool)
            for place in range(len(outs)):
                outs[place], hits = self._look_up(place, rows, outs[place])
                known &= hits
            if known.any():
                pieces = [out[: len(rows)][known] for out in outs if out is not None]
                yield rows[known], pieces

    def put(self, rows: Rows, pieces: Sequence[NDArray[Any]]) -> None:
        """Store what was just computed."""
        places = as_indices(rows)
        for fingerprint, piece in zip(self._fingerprints, pieces, strict=True):
            self._store.put_many(
                self._keys(fingerprint, places), piece, model=self._model
            )

    def _look_up(
        self, place: int, rows: Indices, out: NDArray[Any] | None
    ) -> tuple[NDArray[Any] | None, NDArray[np.bool_]]:
        """Find rows under one reading; the first hit tells what rows look like."""
        keys = self._keys(self._fingerprints[place], rows)
        if out is not None:
            return out, self._store.get_into(keys, out[: len(rows)])
        vectors = self._store.get_many(keys)
        like = next((vector for vector in vectors if vector is not None), None)
        hits = np.zeros(len(rows), bool)
        if like is None:
            return None, hits
        out = np.empty((_AT_ONCE, *like.shape), like.dtype)
        for position, vector in enumerate(vectors):
            if vector is not None and vector.shape == like.shape:
                out[position] = vector
                hits[position] = True
        return out, hits

    def _keys(self, fingerprint: bytes, rows: Indices) -> list[bytes]:
        start = hashlib.blake2b(digest_size=16, key=fingerprint)
        keys = []
        for row in rows:
            own = start.copy()
            own.update(self._contents[row])
            keys.append(own.digest())
        return keys
