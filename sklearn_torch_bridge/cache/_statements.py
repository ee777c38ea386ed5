"""The SQL statements: select, insert, count and delete rows."""

import time
from collections.abc import Collection, Generator, Iterable, Sequence
from sqlite3 import SQLITE_CORRUPT, Connection, DatabaseError
from typing import Any

from sklearn_torch_bridge.cache._row_layout import checksum_of
from sklearn_torch_bridge.cache._schema import transaction
from sklearn_torch_bridge.cache._sqlite_errors import code_of

__all__ = ["count", "delete_all", "insert", "measure", "prune", "select"]

_BATCH = 500
_INSERT = (
    "INSERT OR IGNORE INTO rows (key, model, written, n_bytes, layout, checksum, data)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)

Row = tuple[Any, Any, Any, Any]
"""Key, layout, checksum and data, of any type that a file can hold."""


def select(
    connection: Connection, keys: Sequence[bytes], errors: list[Exception]
) -> Generator[Row, None, None]:
    """Yield the rows of `keys` in any order; from a damaged file perhaps others too.

    Where a page of the file is damaged, the rows of other pages are still found (some
    of them twice), and the error is added to `errors`.
    """
    batches = [keys[at : at + _BATCH] for at in range(0, len(keys), _BATCH)]
    while batches:
        batch = batches.pop()
        marks = ",".join("?" * len(batch))
        query = f"SELECT key, layout, checksum, data FROM rows WHERE key IN ({marks})"  # noqa: S608 - the marks are ours
        try:
            yield from connection.execute(query, batch)
        except DatabaseError as error:
            if code_of(error) != SQLITE_CORRUPT:
                raise
            if len(batch) == 1:
                errors.append(error)
            else:
                half = len(batch) // 2
                batches += batch[:half], batch[half:]


def insert(
    connection: Connection,
    keys: Sequence[bytes],
    rows: Iterable[memoryview],
    layouts: Sequence[str],
    *,
    model: bytes,
    replaced: Collection[bytes],
) -> None:
    """Insert rows in one transaction; existing ones stay, except the `replaced`."""
    written = time.time()
    values = (
        (key, model, written, len(row), layout, checksum_of(key, layout, row), row)
        for key, row, layout in zip(keys, rows, layouts, strict=True)
    )
    with transaction(connection):
        delete = "DELETE FROM rows WHERE key = ?"
        connection.executemany(delete, ((key,) for key in keys if key in replaced))
        connection.executemany(_INSERT, values)


def count(connection: Connection) -> int:
    """Count the rows."""
    return int(connection.execute("SELECT COUNT(*) FROM rows").fetchone()[0])


def measure(connection: Connection) -> tuple[int, int, int]:
    """Count the rows, their bytes and their models."""
    query = "SELECT COUNT(*), SUM(n_bytes), COUNT(DISTINCT model) FROM rows"
    rows, n_bytes, models = connection.execute(query).fetchone()
    return rows, int(n_bytes or 0), models


def delete_all(connection: Connection) -> int:
    """Delete every row and free the disk space."""
    with transaction(connection):
        removed = connection.execute("DELETE FROM rows").rowcount
    _shrink(connection)
    return removed


def prune(connection: Connection, max_bytes: float | None, before: float | None) -> int:
    """Delete rows written `before`, then the oldest down to `max_bytes`; count them.

    The order is that of writing, also where the clock jumped.
    """
    with transaction(connection):
        # Nothing is less than NULL, which None stands for.
        delete = "DELETE FROM rows WHERE written <= ?"
        removed = connection.execute(delete, (before,)).rowcount
        if max_bytes is not None:
            last = _last_to_delete(connection, measure(connection)[1] - max_bytes)
            delete = "DELETE FROM rows WHERE id <= ?"
            removed += connection.execute(delete, (last,)).rowcount
    _shrink(connection)
    return removed


def _last_to_delete(connection: Connection, excess: float) -> int | None:
    """Return the last of the oldest rows that together hold `excess` bytes."""
    if excess <= 0:
        return None
    last = None
    query = "SELECT id, CAST(n_bytes AS INTEGER) FROM rows ORDER BY id"
    for row_id, n_bytes in connection.execute(query):
        last = row_id
        excess -= n_bytes or 0
        if excess <= 0:
            break
    return last


def _shrink(connection: Connection) -> None:
    """Cut free pages off the file, without a second copy of it as VACUUM makes."""
    # A script, because `execute` would free one page only.
    script = "PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE);"
    connection.executescript(script)
