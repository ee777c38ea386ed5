"""The statements: rows by key, in and out, counted and thrown away."""

import sqlite3
import time
from collections.abc import Collection, Generator, Iterable, Sequence
from typing import Any

from sklearn_torch_bridge.cache._faults import is_damage
from sklearn_torch_bridge.cache._row_layout import checksum_of
from sklearn_torch_bridge.cache._schema import transaction

__all__ = ["count", "delete_all", "insert", "measure", "prune", "select"]

_BATCH = 500
_INSERT = (
    "INSERT OR IGNORE INTO rows (key, model, written, n_bytes, layout, checksum, data)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)

Row = tuple[Any, Any, Any, Any]
"""Key, layout, checksum and data, of any type that a file can hold."""


def select(
    connection: sqlite3.Connection,
    keys: Sequence[bytes],
    errors: list[Exception],
) -> Generator[Row, None, None]:
    """Give the rows of `keys` that are there, in any order; damaged, also others.

    Where a page of the file is damaged, the rows of other pages are found all the
    same (some of them twice), and the error is added to `errors`.
    """
    for start in range(0, len(keys), _BATCH):
        yield from _select_batch(connection, keys[start : start + _BATCH], errors)


def _select_batch(
    connection: sqlite3.Connection,
    keys: Sequence[bytes],
    errors: list[Exception],
) -> Generator[Row, None, None]:
    marks = ",".join("?" * len(keys))
    query = f"SELECT key, layout, checksum, data FROM rows WHERE key IN ({marks})"  # noqa: S608 - the marks are ours
    try:
        yield from connection.execute(query, keys)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        if len(keys) == 1:
            errors.append(error)
            return
        half = len(keys) // 2
        yield from _select_batch(connection, keys[:half], errors)
        yield from _select_batch(connection, keys[half:], errors)


def insert(
    connection: sqlite3.Connection,
    keys: Sequence[bytes],
    rows: Iterable[memoryview],
    layout: str,
    *,
    model: bytes,
    replaced: Collection[bytes],
) -> None:
    """Add rows in one transaction; those there already stay, but for `replaced`."""
    written = time.time()
    values = (
        (key, model, written, len(row), layout, checksum_of(key, layout, row), row)
        for key, row in zip(keys, rows, strict=True)
    )
    with transaction(connection):
        delete = "DELETE FROM rows WHERE key = ?"
        connection.executemany(delete, ((key,) for key in keys if key in replaced))
        connection.executemany(_INSERT, values)


def count(connection: sqlite3.Connection) -> int:
    """Count the rows."""
    return int(connection.execute("SELECT COUNT(*) FROM rows").fetchone()[0])


def measure(connection: sqlite3.Connection) -> tuple[int, int, int]:
    """Count the rows, their bytes and the models they are of."""
    query = "SELECT COUNT(*), SUM(n_bytes), COUNT(DISTINCT model) FROM rows"
    rows, n_bytes, models = connection.execute(query).fetchone()
    return rows, int(n_bytes or 0), models


def delete_all(connection: sqlite3.Connection) -> int:
    """Delete every row and give the disk back."""
    with transaction(connection):
        removed = connection.execute("DELETE FROM rows").rowcount
    _shrink(connection)
    return removed


def prune(
    connection: sqlite3.Connection, max_bytes: float | None, before: float | None
) -> int:
    """Delete rows written `before`, then the oldest down to `max_bytes`; count them.

    The order is that of writing, whatever the clock said.
    """
    removed = 0
    with transaction(connection):
        if before is not None:
            delete = "DELETE FROM rows WHERE written <= ?"
            removed += connection.execute(delete, (before,)).rowcount
        if max_bytes is not None:
            last = _last_to_go(connection, measure(connection)[1] - max_bytes)
            delete = "DELETE FROM rows WHERE id <= ?"
            removed += connection.execute(delete, (last,)).rowcount
    _shrink(connection)
    return removed


def _last_to_go(connection: sqlite3.Connection, excess: float) -> int | None:
    """Give the newest of the oldest rows that hold `excess` bytes together."""
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


def _shrink(connection: sqlite3.Connection) -> None:
    """Cut free pages off the file: no second copy of it, as VACUUM would make."""
    # A script, because `execute` would free one page and stop.
    connection.executescript(
        "PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE);"
    )
