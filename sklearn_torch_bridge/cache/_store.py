"""Rows in and out of the file, whatever the file does."""

import sqlite3
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TypeVar

from sklearn_torch_bridge._errors import CacheError, CacheWarning
from sklearn_torch_bridge.cache import _statements
from sklearn_torch_bridge.cache._faults import FAULTS, explain, is_busy
from sklearn_torch_bridge.cache._pool import Pool, gate
from sklearn_torch_bridge.cache._row_layout import is_intact

__all__ = ["Place", "Store"]

T = TypeVar("T")
Place = Callable[[list[int], str, bytes], bool]
"""Take layout and data of a row for its positions, or say that it is unwanted."""

_PATIENCE_SECONDS = 60.0
_LITTLE_PATIENCE_SECONDS = 0.1


class Store:
    """The rows at `path`: faults are misses or left out, and told once."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._pool = Pool(path)
        self._unfit: set[bytes] = set()  # keys of rows to be replaced
        self._warned: set[str] = set()
        self._is_patient = True

    def look_up(self, keys: Sequence[bytes], place: Place) -> None:
        """Hand every intact row to `place`, with the positions of its key."""
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
                            self._unfit.add(key)
        except FileNotFoundError:
            return
        except FAULTS as error:
            errors.append(error)
        if errors:
            self._warn("read from", errors[0])

    def put(
        self,
        keys: Sequence[bytes],
        rows: Iterable[memoryview],
        layout: str,
        *,
        model: bytes,
    ) -> None:
        """Store rows that are not there, or were found unfit; all or none."""
        try:
            with self._connection(create=True) as connection:
                _statements.insert(
                    connection, keys, rows, layout, model=model, replaced=self._unfit
                )
        except FAULTS as error:
            self._warn("stored in", error)
        else:
            self._is_patient = True
            self._unfit.difference_update(keys)

    def ask(self, question: Callable[[sqlite3.Connection], T], nothing: T) -> T:
        """Ask the file, or give `nothing` where there is none; faults are errors."""
        try:
            with self._pool.connection(
                create=False, patience_seconds=_PATIENCE_SECONDS
            ) as connection:
                return question(connection)
        except FileNotFoundError:
            return nothing
        except FAULTS as error:
            msg = f"The cache {self._path!r} cannot be used: {explain(error)}"
            raise CacheError(msg) from error

    def close(self) -> None:
        """Close the file until the next use."""
        self._pool.close()

    @contextmanager
    def _connection(self, *, create: bool) -> Iterator[sqlite3.Connection]:
        """Lend a connection that waits long, unless that was in vain just before."""
        patience = _PATIENCE_SECONDS if self._is_patient else _LITTLE_PATIENCE_SECONDS
        with self._pool.connection(create=create, patience_seconds=patience) as lent:
            yield lent

    def _warn(self, place: str, error: Exception) -> None:
        """Warn once of what cannot be read and once of what cannot be stored."""
        self._is_patient = not is_busy(error)
        with gate:
            known = not self._warned.isdisjoint((place, str(error)))
            self._warned.update((place, str(error)))
        if not known:
            msg = (
                f"Rows could not be {place} the cache {self._path!r}: "
                f"{explain(error)} Results are right without it. This is said once; "
                f"to hear nothing, ignore CacheWarning."
            )
            warnings.warn(msg, CacheWarning, stacklevel=4)
