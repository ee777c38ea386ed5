"""Connections to one file: each used by one thread at a time, none by two processes."""

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sklearn_torch_bridge.cache import _cache_file
from sklearn_torch_bridge.cache._schema import prepare
from sklearn_torch_bridge.cache._sqlite_errors import is_busy

__all__ = ["Pool", "connections_lock"]

connections_lock = threading.RLock()
"""Held for moments, to open and borrow connections, and while a process forks."""

_MAX_IDLE = 4
_FORK_SECONDS = 5.0


class _Connection(sqlite3.Connection):
    """A connection that knows its file, and is locked by the thread that uses it."""

    lock: threading.Lock
    file: tuple[int, int]
    is_immutable = False
    is_open = True
    is_prepared = False

    def wait_at_most(self, patience_seconds: float) -> None:
        self.execute(f"PRAGMA busy_timeout = {round(patience_seconds * 1000)}")

    def close(self) -> None:
        self.is_open = False
        super().close()


_opened: weakref.WeakSet[_Connection] = weakref.WeakSet()


class Pool:
    """Connections to `path`, opened when first needed and then kept.

    The connection of a block that raises is closed, with its transaction.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._idle: list[_Connection] = []
        self._closings = 0
        weakref.finalize(self, _close_all, self._idle)

    @contextmanager
    def connection(
        self, *, create: bool, patience_seconds: float
    ) -> Iterator[sqlite3.Connection]:
        """Borrow a connection; without a cache, make one or raise FileNotFoundError.

        With `create` false the file need not be writable: reading works also in a
        folder that cannot hold SQLite's own files.
        """
        closings = self._closings
        connection = self._take(create, patience_seconds)
        try:
            yield connection
        except BaseException as error:
            # Kept after an error of the file: on a full disk it might not open again.
            if not isinstance(error, sqlite3.Error) or connection.in_transaction:
                connection.close()
            raise
        finally:
            connection.lock.release()
            keep = closings == self._closings and len(self._idle) < _MAX_IDLE
            if keep and connection.is_open and not connection.is_immutable:
                self._idle.append(connection)
            else:
                connection.close()

    def close(self) -> None:
        """Close connections: idle ones now, those in use when they come back."""
        self._closings += 1
        _close_all(self._idle)

    def _take(self, create: bool, patience_seconds: float) -> _Connection:
        try:
            connection = self._lock_one(create=create)
            return _prepared(connection, self._path, patience_seconds, create=create)
        except sqlite3.OperationalError as error:
            if create or is_busy(error):
                raise
        connection = self._lock_one(create=False, immutable=True)
        return _prepared(connection, self._path, patience_seconds, create=False)

    def _lock_one(self, *, create: bool, immutable: bool = False) -> _Connection:
        """Return an idle connection or a new one, locked by this thread."""
        with connections_lock:
            if create:
                _cache_file.make_file(self._path)
            status = self._path.stat()
            file = status.st_dev, status.st_ino
            while self._idle:
                connection = self._idle.pop()
                # Closed for a fork, or the file was removed under it.
                if connection.is_open and connection.file == file:
                    break
                connection.close()
            else:
                connection = _connect(self._path, immutable=immutable)
                connection.file = file
                _opened.add(connection)
            connection.lock.acquire()
            return connection


def _connect(path: Path, *, immutable: bool) -> _Connection:
    _cache_file.check_is_cache(path)
    connection = sqlite3.connect(
        _cache_file.to_uri(path, immutable=immutable),
        uri=True,
        isolation_level=None,
        check_same_thread=False,  # `lock` ensures it
        factory=_Connection,
    )
    connection.lock = threading.Lock()
    connection.is_immutable = immutable
    # Then text of any bytes can be read, and differs from a blob in its type.
    connection.text_factory = lambda raw: raw.decode("latin-1")
    return connection


def _prepared(
    connection: _Connection, path: Path, patience_seconds: float, *, create: bool
) -> _Connection:
    """Prepare a connection that this thread has locked, or close it."""
    try:
        connection.wait_at_most(patience_seconds)
        if not connection.is_prepared:
            journal = "delete" if _cache_file.is_on_network(path) else "wal"
            prepare(connection, path, create=create, journal=journal)
            connection.is_prepared = True
            connection.wait_at_most(patience_seconds)
    except BaseException:
        connection.close()
        connection.lock.release()
        raise
    return connection


def _close_all(connections: list[_Connection]) -> None:
    while connections:
        connections.pop().close()


def _before_fork() -> None:
    """Close every connection of this process.

    A child that inherits one takes its locks for its own, also in new connections,
    and then writes where other processes no longer look.
    """
    connections_lock.acquire()
    for connection in list(_opened):
        # Another thread is done with it in a moment; this one is in a signal handler.
        if connection.lock.acquire(timeout=_FORK_SECONDS):
            connection.close()
            connection.lock.release()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=connections_lock.release,
        after_in_child=connections_lock.release,
    )
