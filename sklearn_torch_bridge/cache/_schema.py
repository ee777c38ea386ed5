"""The tables of a cache file: make them, or see that they are the ones meant."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sklearn_torch_bridge._errors import CacheError

__all__ = ["APPLICATION_ID", "FORMAT", "prepare", "refusal", "transaction"]

APPLICATION_ID = 0x53544263  # "STBc", in the header of the file
FORMAT = 1
"""To be counted up by whoever changes `_TABLES` or `_rows.py`."""

_ROWS = (
    "CREATE TABLE rows (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, model BLOB,"
    " written REAL, n_bytes INTEGER, layout TEXT, checksum INTEGER, data BLOB)"
)
# All that `stats` asks for, so that it need not walk over the data.
_AGES = "CREATE INDEX ages ON rows (written, model, n_bytes)"
_TABLES = [_ROWS, _AGES]
_PRAGMAS = [
    "trusted_schema = OFF",  # these three: the file may come from anywhere
    "cell_size_check = ON",
    "mmap_size = 0",
    "synchronous = NORMAL",
    "journal_size_limit = 67108864",
]
_SWITCH_SECONDS = 1


def prepare(
    connection: sqlite3.Connection, path: Path, *, create: bool, journal: str
) -> None:
    """Make a new connection fit for use, and the tables where there are none.

    Raises FileNotFoundError where there are none and they shall not be made.
    """
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    tables = _read_tables(connection)
    if not tables:
        if not create:
            raise FileNotFoundError(path)
        tables = _create_tables(connection)
    if tables != _TABLES:
        # A view or a trigger could run what it likes.
        raise refusal(path, f"its tables are not those of format {FORMAT}")
    _choose_journal(connection, journal)


def refusal(path: Path, reason: str) -> CacheError:
    """Give the error for what is at `path` and shall stay as it is."""
    return CacheError(
        f"`path` must name a file that EmbeddingCache made, or will make, got "
        f"{str(path)!r}: {reason}. It is left as it is; give another path."
    )


@contextmanager
def transaction(
    connection: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE"
) -> Iterator[None]:
    """Commit all of the block, or nothing."""
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _read_tables(connection: sqlite3.Connection) -> list[str]:
    query = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid"
    return [sql for (sql,) in connection.execute(query)]


def _create_tables(connection: sqlite3.Connection) -> list[str]:
    """Make the tables in one transaction that leaves all or an empty file.

    In rollback mode, as every new file is: the numbers that tell a cache from other
    files are then in its first bytes from the first moment.
    """
    connection.execute("PRAGMA page_size = 16384")
    with transaction(connection, "BEGIN"):
        # The first to write, before a new file is laid out and it would be too late.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        if not _read_tables(connection):  # else another process was first
            for table in _TABLES:
                connection.execute(table)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {FORMAT}")
        return _read_tables(connection)


def _choose_journal(connection: sqlite3.Connection, journal: str) -> None:
    """Set the journal; where that is refused the file works with the one it has."""
    if connection.execute("PRAGMA journal_mode").fetchone() == (journal,):
        return
    connection.execute(f"PRAGMA busy_timeout = {_SWITCH_SECONDS * 1000}")
    try:
        connection.execute(f"PRAGMA journal_mode = {journal}")
    except sqlite3.OperationalError:  # in use, or read-only: a later opening may
        return
