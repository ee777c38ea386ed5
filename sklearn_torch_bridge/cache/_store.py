"""Read and store rows; errors of the file become misses and one warning."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, closing
from sqlite3 import Connection
from typing import TypeVar

from sklearn_torch_bridge._errors import CacheError, CacheWarning
from sklearn_torch_bridge.cache import _statements
from sklearn_torch_bridge.cache._connection_pool import Pool, connections_lock
from sklearn_torch_bridge.cache._row_layout import is_intact
from sklearn_torch_bridge.cache._sqlite_errors import FILE_ERRORS, explain, is_busy

__all__ = ["Place", "Store"]

T = TypeVar("T")
Place = Callable[[list[int], str, bytes], bool]
"""Take positions, layout and data of a row; return whether the row was usable."""

_PATIENCE_SECONDS = 60.0
_SHORT_PATIENCE_SECONDS = 0.1


class Store:
    """The rows at `path`: errors make misses, or rows not stored, and one warning."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._pool = Pool(path)
        self._damaged: set[bytes] = set()  # keys of rows to replace
        self._warned: set[str] = set()
        self._is_patient = True

    def look_up(self, keys: Sequence[bytes], place: Place) -> None:
        """Call `place` with every intact row and the positions of its key."""
        places: dict[bytes, list[int]] = {}
        for position, key in enumerate(keys):
            places.setdefault(key, []).append(position)
        errors: list[Exception] = []
        try:
            with self._connection(create=False) as connection:
                rows = _statements.select(connection, list(places), errors)
                with closing(rows):
                    for key, layout, checksum, data in rows:
                        if key not in places:  # the index is damaged
                            continue
                        intact = is_intact(key, layout, checksum, data)
                        if not (intact and place(places[key], layout, data)):
                            self._damaged.add(key)
        except FileNotFoundError:
            return
        except FILE_ERRORS as error:
            errors.append(error)
        if errors:
            self._warn("read from", errors[0])

    def put(
        self,
        keys: Sequence[bytes],
        rows: Iterable[memoryview],
        layouts: Sequence[str],
        *,
        model: bytes,
    ) -> None:
        """Store rows that are missing or were found damaged: all, or none."""
        try:
            with self._connection(create=True) as connection:
                _statements.insert(
                    connection, keys, rows, layouts, model=model, replaced=self._damaged
                )
        except FILE_ERRORS as error:
            self._warn("stored in", error)
        else:
            self._is_patient = True
            self._damaged.difference_update(keys)

    def query(self, question: Callable[[Connection], T], default: T) -> T:
        """Query the file; without one return `default`. Errors become CacheError."""
        try:
            with self._pool.connection(
                create=False, patience_seconds=_PATIENCE_SECONDS
            ) as connection:
                return question(connection)
        except FileNotFoundError:
            return default
        except FILE_ERRORS as error:
            msg = f"The cache {self._path!r} cannot be used: {explain(error)}"
            raise CacheError(msg) from error

    def close(self) -> None:
        """Close the file until the next use."""
        self._pool.close()

    def _connection(self, *, create: bool) -> AbstractContextManager[Connection]:
        """Borrow a connection that waits long, unless that was in vain just before."""
        patience = _PATIENCE_SECONDS if self._is_patient else _SHORT_PATIENCE_SECONDS
        return self._pool.connection(create=create, patience_seconds=patience)

    def _warn(self, place: str, error: Exception) -> None:
        """Warn once of what cannot be read and once of what cannot be stored."""
        self._is_patient = not is_busy(error)
        with connections_lock:
            known = not self._warned.isdisjoint((place, str(error)))
            self._warned.update((place, str(error)))
        if not known:
            msg = (
                f"Rows could not be {place} the cache {self._path!r}: "
                f"{explain(error)} Results are right without it. This is said once; "
                f"to hear nothing, ignore CacheWarning."
            )
            warnings.warn(msg, CacheWarning, stacklevel=4)
