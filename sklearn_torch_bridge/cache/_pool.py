"""Connections to one file: each used by one thread at a time, none by two processes."""

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sklearn_torch_bridge.cache._faults import is_busy
from sklearn_torch_bridge.cache._file import (
    check_is_cache,
    is_on_network,
    make_file,
    to_uri,
)
from sklearn_torch_bridge.cache._schema import prepare

__all__ = ["Pool", "gate"]

gate = threading.RLock()
"""Held for moments, to open and hand out connections, and while a process forks."""

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
    """Hand out connections to `path`, opened when first needed and kept for the next.

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
        """Lend a connection; without a cache at `path`, make one or FileNotFoundError.

        Where it need not be made it need not be writable: reading a file in a folder
        that cannot hold SQLite's own files works as well.
        """
        closings = self._closings
        connection = self._take(create, patience_seconds)
        try:
            yield connection
        except BaseException as error:
            # Kept after a fault of the file: a full disk might not let it open again.
            if not isinstance(error, sqlite3.Error) or connection.in_transaction:
                connection.close()
            raise
        finally:
            connection.lock.release()
            self._take_back(connection, closings)

    def close(self) -> None:
        """Close what is idle now, and what is in use when it comes back."""
        self._closings += 1
        _close_all(self._idle)

    def _take_back(self, connection: _Connection, closings: int) -> None:
        keep = closings == self._closings and len(self._idle) < _MAX_IDLE
        if keep and connection.is_open and not connection.is_immutable:
            self._idle.append(connection)
        else:
            connection.close()

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
        """Give an idle connection or a new one, in the hands of this thread."""
        with gate:
            if create:
                make_file(self._path)
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
    check_is_cache(path)
    connection = sqlite3.connect(
        to_uri(path, immutable=immutable),
        uri=True,
        isolation_level=None,
        check_same_thread=False,  # `lock` sees to it
        factory=_Connection,
    )
    connection.lock = threading.Lock()
    connection.is_immutable = immutable
    # Text of any bytes can be read, and is known from bytes.
    connection.text_factory = lambda raw: raw.decode("latin-1")
    return connection


def _prepared(
    connection: _Connection, path: Path, patience_seconds: float, *, create: bool
) -> _Connection:
    """Make a connection ready that this thread has locked, or give it up."""
    try:
        connection.wait_at_most(patience_seconds)
        if not connection.is_prepared:
            journal = "delete" if is_on_network(path) else "wal"
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

    A child that inherits one believes that it holds its locks, even through
    connections of its own, and writes where other processes no longer look.
    """
    gate.acquire()
    for connection in list(_opened):
        # In use by another thread: done in a moment. By this one: in a signal handler.
        if connection.lock.acquire(timeout=_FORK_SECONDS):
            connection.close()
            connection.lock.release()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(
        before=_before_fork, after_in_parent=gate.release, after_in_child=gate.release
    )
