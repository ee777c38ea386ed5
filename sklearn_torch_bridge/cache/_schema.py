"""The tables of a cache file: create them, or check that they are of our format."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sklearn_torch_bridge._errors import CacheError

__all__ = ["APPLICATION_ID", "FORMAT", "prepare", "refusal", "transaction"]

APPLICATION_ID = 0x53544263  # "STBc", in the header of the file
FORMAT = 1
"""To be raised with any change of `_TABLES` or of `_row_layout.py`."""

_ROWS = (
    "CREATE TABLE rows (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, model BLOB,"
    " written REAL, n_bytes INTEGER, layout TEXT, checksum INTEGER, data BLOB)"
)
# All that `stats` asks for, so that it need not walk over the data.
_TABLES = [_ROWS, "CREATE INDEX ages ON rows (written, model, n_bytes)"]
_PRAGMAS = [
    "trusted_schema = OFF",  # these three: the file may come from anywhere
    "cell_size_check = ON",
    "mmap_size = 0",
    "synchronous = NORMAL",
    "journal_size_limit = 67108864",
]


def prepare(
    connection: sqlite3.Connection, path: Path, *, create: bool, journal: str
) -> None:
    """Prepare a new connection, and create the tables where there are none.

    Raises FileNotFoundError where there are none and `create` is false.
    """
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    tables = _read_tables(connection)
    if not tables:
        if not create:
            raise FileNotFoundError(path)
        tables = _create_tables(connection)
    if tables != _TABLES:
        # A view or a trigger could run any SQL.
        raise refusal(path, f"its tables are not those of format {FORMAT}")
    if connection.execute("PRAGMA journal_mode").fetchone() != (journal,):
        connection.execute("PRAGMA busy_timeout = 1000")  # milliseconds
        # In use, or read-only: the file works with the mode it has.
        with suppress(sqlite3.OperationalError):
            connection.execute(f"PRAGMA journal_mode = {journal}")


def refusal(path: Path, reason: str) -> CacheError:
    """Return the error for a file at `path` that is no cache of this format."""
    return CacheError(
        f"`path` must name a file that EmbeddingCache made, or will make, got "
        f"{str(path)!r}: {reason}. It is left as it is; give another path."
    )


@contextmanager
def transaction(
    connection: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE"
) -> Iterator[None]:
    """Commit the whole block, or nothing."""
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
    """Create the tables in one transaction: all of them, or the file stays empty.

    In rollback mode, as new files are, the first bytes identify a cache at once.
    """
    connection.execute("PRAGMA page_size = 16384")
    with transaction(connection, "BEGIN"):
        # The first statement: once a new file has its layout it is too late.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        if not _read_tables(connection):  # else another process was first
            for table in _TABLES:
                connection.execute(table)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {FORMAT}")
        return _read_tables(connection)
