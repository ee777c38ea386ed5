"""`EmbeddingCache`, the object that users make and pass on."""

import os
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sklearn_torch_bridge.cache import _row_layout, _statements
from sklearn_torch_bridge.cache._connection_pool import connections_lock
from sklearn_torch_bridge.cache._store import Store

__all__ = ["EmbeddingCache"]


class EmbeddingCache:
    """Keep embedded rows in a file, under keys of all that determines them.

    A key must be a digest of the row and of everything else that its vector depends
    on, as `TorchFeatureExtractor` makes them: so a cache never becomes outdated.

    What goes wrong with the file costs time, not results: a row that cannot be read,
    or is not what was stored, is a miss; rows that cannot be stored are not. Each
    cache object warns of it once (`CacheWarning`). Only a path that names something
    else than a cache is an error.

    Parameters
    ----------
    path : str or os.PathLike
        The file. Made by the first `put_many` if missing, with its folders, for the
        user alone. Until then nothing is looked at.

    Attributes
    ----------
    path : str
        The file's absolute path.

    Notes
    -----
    Threads may share a cache. Processes may open the same file, and may `fork` with
    it open. Copies, clones and pickles are the path alone. ``docs/cache.md`` describes
    what is stored, and what happens when something fails.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> folder = tempfile.TemporaryDirectory()
    >>> cache = EmbeddingCache(f"{folder.name}/embeddings.db")
    >>> keys = [b"sixteen bytes: a", b"sixteen bytes: b"]
    >>> cache.put_many(keys, np.array([[1.0, 2.0], [3.0, 4.0]]))
    >>> cache.get_many([b"sixteen bytes: b", b"sixteen bytes: c"])
    [array([3., 4.]), None]
    >>> cache.stats()
    {'rows': 2, 'bytes': 32, 'hits': 1, 'misses': 1, 'models': 1}
    >>> cache.close()
    >>> folder.cleanup()
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        name = os.fspath(path)
        if not name or name == ":memory:":
            msg = f"`path` must name a file, got {path!r}."
            raise ValueError(msg)
        self.path = os.path.abspath(name)  # noqa: PTH100 - Path.absolute keeps '..'
        self._store = Store(self.path)
        self._hits = self._misses = 0

    def get_many(
        self, keys: Sequence[bytes], *, notes: dict[int, str] | None = None
    ) -> list[NDArray[Any] | None]:
        """Look rows up.

        Parameters
        ----------
        keys : sequence of bytes
            Digests, also the same one several times.
        notes : dict, default=None
            Takes the notes on rows that were stored with one, by their places.

        Returns
        -------
        rows : list of ndarray or None
            For each key its row, read-only, in the dtype and shape stored, or None.

        Raises
        ------
        CacheError
            If `path` names something else than a cache.
        """
        _check_keys(keys)
        rows: list[NDArray[Any] | None] = [None] * len(keys)

        def place(positions: list[int], stored: str, data: bytes) -> bool:
            layout, note = _row_layout.without_note(stored)
            row = _row_layout.to_array(layout, data)
            for position in positions:
                rows[position] = row
            if note and notes is not None and row is not None:
                notes.update(dict.fromkeys(positions, note))
            return row is not None

        self._store.look_up(keys, place)
        self._count(sum(row is not None for row in rows), len(rows))
        return rows

    def get_into(
        self,
        keys: Sequence[bytes],
        out: NDArray[Any],
        *,
        notes: dict[int, str] | None = None,
    ) -> NDArray[np.bool_]:
        r"""Look rows up and write those found into an array, in one pass.

        Parameters
        ----------
        keys : sequence of bytes
            Digests, also the same one several times.
        out : ndarray of shape (n_samples, \*row_shape)
            Where to write, C-contiguous. Rows not found are left as they are. A row
            stored in another dtype or shape than those of `out` is not found.
        notes : dict, default=None
            Takes the notes on rows that were stored with one, by their places.

        Returns
        -------
        found : ndarray of bool, of shape (n_samples,)
            Which rows of `out` were written.

        Raises
        ------
        ValueError
            If `out` is not C-contiguous, writable and as long as `keys`.
        TypeError
            If a key is no bytes, or `out` has a dtype that is not stored.
        CacheError
            If `path` names something else than a cache.
        """
        _check_rows(keys, out)
        if not (out.flags.c_contiguous and out.flags.writeable):
            msg = "`out` must be C-contiguous and writable."
            raise ValueError(msg)
        layout = _row_layout.layout_of(out.dtype, out.shape[1:])
        target = _row_layout.row_bytes(out)
        n_bytes = len(target) // max(len(out), 1)
        found = bytearray(len(out))

        def place(positions: list[int], stored: str, data: bytes) -> bool:
            note = ""
            if stored != layout:  # another one, or with a note
                its_layout, note = _row_layout.without_note(stored)
                if its_layout != layout:
                    return False
            if len(data) != n_bytes:
                return False
            if note and notes is not None:
                notes.update(dict.fromkeys(positions, note))
            for position in positions:
                target[position * n_bytes : (position + 1) * n_bytes] = data
                found[position] = True
            return True

        self._store.look_up(keys, place)
        self._count(sum(found), len(found))
        return np.frombuffer(found, np.bool_)

    def put_many(
        self,
        keys: Sequence[bytes],
        vectors: NDArray[Any],
        *,
        model: bytes = b"",
        notes: Sequence[str] = (),
    ) -> None:
        r"""Store rows: all of them, or none if that fails or is interrupted.

        Parameters
        ----------
        keys : sequence of bytes
            Digests. A row whose key is there already stays as it is.
        vectors : ndarray of shape (n_samples, \*row_shape)
            One row a key, of booleans, integers, or real or complex floats; no
            ``longdouble``.
        model : bytes, default=b""
            A digest of what made the rows, for `stats`.
        notes : sequence of str, default=()
            One a row, "" for none: short, and kept with it.

        Raises
        ------
        TypeError
            If a key is no bytes, or `vectors` has a dtype that is not stored.
        ValueError
            If `vectors`, or `notes`, has another length than `keys`.
        CacheError
            If `path` names something else than a cache.

        Warns
        -----
        CacheWarning
            If rows could not be stored, the first time.
        """
        _check_rows(keys, vectors)
        if len(notes) not in (0, len(keys)):
            msg = f"There must be one note for each of {len(keys)}, got {len(notes)}."
            raise ValueError(msg)
        native = np.ascontiguousarray(vectors, vectors.dtype.newbyteorder("="))
        layout = _row_layout.layout_of(native.dtype, vectors.shape[1:])
        if keys:
            rows = _row_layout.cut_rows(native, len(keys))
            layouts = [_row_layout.noted(layout, note) for note in notes]
            self._store.put(keys, rows, layouts or [layout] * len(keys), model=model)

    def __len__(self) -> int:
        return self._store.query(_statements.count, 0)

    def stats(self) -> dict[str, int]:
        """Count what is stored and how often it was found.

        Returns
        -------
        stats : dict of str to int
            Of the file: ``rows``, ``bytes`` (of the rows alone; the file is a tenth
            larger at 384 floats a row) and ``models`` (how many `model` there are).
            Of this object: ``hits`` and ``misses``, one for each key looked up.

        Raises
        ------
        CacheError
            If the file is no cache, or cannot be read.
        """
        rows, n_bytes, models = self._store.query(_statements.measure, (0, 0, 0))
        lookups = {"hits": self._hits, "misses": self._misses}
        return {"rows": rows, "bytes": n_bytes, **lookups, "models": models}

    def prune(
        self, *, max_bytes: float | None = None, older_than_seconds: float | None = None
    ) -> int:
        """Delete the rows that were written first, and give their disk space back.

        Parameters
        ----------
        max_bytes : float, default=None
            How many ``bytes``, as `stats` counts them, may stay.
        older_than_seconds : float, default=None
            Delete every row written longer ago than this.

        Returns
        -------
        n_removed : int
            How many rows were deleted.

        Raises
        ------
        ValueError
            If neither limit is given, or one is negative or NaN.
        CacheError
            If the file is no cache, or cannot be written.
        """
        if max_bytes is None and older_than_seconds is None:
            msg = "`prune` needs `max_bytes` or `older_than_seconds`, got neither."
            raise ValueError(msg)
        most = _check_limit("max_bytes", max_bytes)
        age = _check_limit("older_than_seconds", older_than_seconds)
        before = None if age is None else time.time() - age
        prune = partial(_statements.prune, max_bytes=most, before=before)
        return self._store.query(prune, 0)

    def clear(self) -> None:
        """Delete every row and give the disk space back.

        Raises
        ------
        CacheError
            If the file is no cache, or cannot be written.
        """
        self._store.query(_statements.delete_all, 0)

    def close(self) -> None:
        """Close the file, as when the object is gone; the next call opens it again."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EmbeddingCache) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        return type(self), (self.path,)

    def __copy__(self, _: object = None) -> Self:
        return self

    __deepcopy__ = __sklearn_clone__ = __copy__

    def _count(self, hits: int, lookups: int) -> None:
        with connections_lock:
            self._hits += hits
            self._misses += lookups - hits


def _check_rows(keys: Sequence[bytes], rows: NDArray[Any]) -> None:
    _check_keys(keys)
    if rows.ndim < 1 or len(rows) != len(keys):
        each = f"There must be one row for each of the {len(keys)} keys"
        msg = f"{each}, got an array of shape {rows.shape}."
        raise ValueError(msg)


def _check_keys(keys: Sequence[bytes]) -> None:
    for kind in set(map(type, keys)) - {bytes}:
        msg = f"`keys` must be bytes, got {kind.__name__}."
        raise TypeError(msg)


def _check_limit(name: str, limit: float | None) -> float | None:
    checked = None if limit is None else float(limit)
    if checked is not None and not checked >= 0:
        msg = f"`{name}` must be at least 0, got {limit!r}."
        raise ValueError(msg)
    return checked
