"""Look rows up in a cache, so that only the others run; store each batch in it."""

import os
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_torch_bridge._convert import result_dtype, write_rows
from sklearn_torch_bridge._digest import cache_keys
from sklearn_torch_bridge._results import Sink, entries_of
from sklearn_torch_bridge._row_numbers import as_indices, count_rows
from sklearn_torch_bridge._types import Indices, Piece, Rows, Tokens
from sklearn_torch_bridge.cache import EmbeddingCache

__all__ = ["Recall", "RememberingSink", "cache_at"]

_CACHES: dict[str, EmbeddingCache] = {}
_LOCK = threading.Lock()
_ROWS_AT_ONCE = 4_096
_MODEL_BYTES = 16
_TOKENS = b"tokens"  # behind a fingerprint: of rows without what padded them


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
    Where `any_shape` is set, rows may differ in shape under a reading; what a mask has
    left of them is stored apart from rows that had none.
    """

    store: EmbeddingCache
    fingerprints: Sequence[bytes]
    contents: Sequence[bytes]
    model: bytes
    any_shape: bool = False

    def found(
        self, which: Indices
    ) -> Iterator[tuple[Indices, list[Any], dict[int, str]]]:
        """Yield rows of `which` that are cached under all readings, and the vectors.

        Of rows whose own tokens were kept, these come as a list. With them come the
        notes on rows that have one, by their places among those yielded.
        """
        if self.any_shape:
            yield from self._found_entries(which)
            return
        outs: list[NDArray[Any] | None] = [None] * len(self.fingerprints)
        for start in range(0, len(which), _ROWS_AT_ONCE):
            rows = which[start : start + _ROWS_AT_ONCE]
            known, notes = np.ones(len(rows), bool), dict[int, str]()
            for place, fingerprint in enumerate(self.fingerprints):
                keys = self._keys(fingerprint, rows)
                outs[place], hits = self._look_up(keys, outs[place], notes)
                known &= hits
            if known.any():
                pieces = [out[: len(rows)][known] for out in outs if out is not None]
                yield rows[known], pieces, _notes_of(np.flatnonzero(known), notes)

    def put(self, rows: Rows, pieces: Sequence[Any], notes: Sequence[str] = ()) -> None:
        """Store the vectors of rows, one array a reading, or a list of their tokens.

        `notes` are kept with them, one a row, or none at all.
        """
        places = as_indices(rows)
        for fingerprint, piece in zip(self.fingerprints, pieces, strict=True):
            if not isinstance(piece, list):
                self._put(fingerprint, places, piece, notes)
                continue
            lengths = np.array([len(entry) for entry in piece])
            for length in np.unique(lengths):
                alike = np.flatnonzero(lengths == length)
                some = np.stack([piece[row] for row in alike])
                own = [notes[row] for row in alike.tolist()] if notes else ()
                self._put(fingerprint + _TOKENS, places[alike], some, own)

    def _put(
        self,
        fingerprint: bytes,
        rows: Indices,
        piece: NDArray[Any],
        notes: Sequence[str],
    ) -> None:
        keys, model = self._keys(fingerprint, rows), self.model[:_MODEL_BYTES]
        self.store.put_many(keys, piece, model=model, notes=notes)

    def _found_entries(
        self, which: Indices
    ) -> Iterator[tuple[Indices, list[Any], dict[int, str]]]:
        """Yield rows of any shape, those together of which all readings are alike."""
        for start in range(0, len(which), _ROWS_AT_ONCE):
            rows, notes = which[start : start + _ROWS_AT_ONCE], dict[int, str]()
            found = [self._entries(one, rows, notes) for one in self.fingerprints]
            alike: dict[Hashable, list[int]] = {}
            for position in range(len(rows)):
                own_kinds = [
                    "tokens" if tokens[position] else entries[position].shape
                    for entries, tokens in found
                    if entries[position] is not None
                ]
                if len(own_kinds) == len(found):
                    alike.setdefault(tuple(own_kinds), []).append(position)
            for kinds, positions in alike.items():
                pieces = [[entries[one] for one in positions] for entries, _ in found]
                own = _notes_of(np.array(positions), notes)
                yield rows[positions], _as_pieces(kinds, pieces), own

    def _entries(
        self, fingerprint: bytes, rows: Indices, notes: dict[int, str]
    ) -> tuple[list[Any], list[bool]]:
        """Look rows up with their own tokens, and else as they were without a mask."""
        keys = self._keys(fingerprint + _TOKENS, rows)
        entries = self.store.get_many(keys, notes=notes)
        tokens = [entry is not None for entry in entries]
        left = [place for place, found in enumerate(tokens) if not found]
        found_notes: dict[int, str] = {}
        keys = self._keys(fingerprint, rows[left])
        others = self.store.get_many(keys, notes=found_notes)
        for place, entry in zip(left, others, strict=True):
            entries[place] = entry
        notes.update((left[place], note) for place, note in found_notes.items())
        return entries, tokens

    def _look_up(
        self, keys: list[bytes], out: NDArray[Any] | None, notes: dict[int, str]
    ) -> tuple[NDArray[Any] | None, NDArray[np.bool_]]:
        """Look rows up under one reading; the first hit decides dtype and shape."""
        if out is not None:
            return out, self.store.get_into(keys, out[: len(keys)], notes=notes)
        vectors = self.store.get_many(keys, notes=notes)
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
    returns the rows of the caller's `X` that rows of the feed stand for, and `notes_of`
    what is noted of them, where something is.
    """

    recall: Recall
    which: Indices
    dtype: np.dtype[Any] | None
    sink: Sink | None
    rows_of: Callable[[Rows], Rows]
    notes_of: Callable[[Rows], Sequence[str]] = lambda _: ()

    def write(self, rows: Rows, pieces: Sequence[Piece]) -> int:
        """Write the pieces of a batch; count the rows of the caller's `X` done."""
        arrays = [_to_array(piece, self.dtype) for piece in pieces]
        self.recall.put(self.which[rows], arrays, self.notes_of(rows))
        return self.sink.write(rows, pieces) if self.sink else count_rows(rows)

    def caller_rows(self, rows: Rows) -> Rows:
        """Return the rows of the caller's `X` that rows of the feed stand for."""
        return self.rows_of(rows)


def _notes_of(places: Indices, notes: dict[int, str]) -> dict[int, str]:
    """Return the notes on what is at these places, by their order among these.

    >>> _notes_of(np.array([2, 5]), {1: "a", 5: "b"})
    {1: 'b'}
    """
    if not notes:
        return {}
    own = enumerate(places.tolist())
    return {row: notes[place] for row, place in own if place in notes}


def _as_pieces(kinds: Any, pieces: list[list[Any]]) -> list[Any]:
    """Leave tokens in a list, and put other rows, which are of one shape, into one."""
    return [
        piece if kind == "tokens" else np.stack(piece)
        for kind, piece in zip(kinds, pieces, strict=True)
    ]


def _to_array(piece: Piece, dtype: np.dtype[Any] | None) -> Any:
    if isinstance(piece, Tokens):
        return entries_of(piece, dtype)
    array = np.empty(tuple(piece.shape), dtype or result_dtype(piece.dtype))
    write_rows(array, slice(0, len(piece)), piece)
    return array
