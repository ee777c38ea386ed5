"""What SQLite's errors mean, and what to do about them."""

import sqlite3

__all__ = ["FAULTS", "explain", "is_busy", "is_damage", "is_foreign"]

FAULTS = (sqlite3.Error, OSError, UnicodeDecodeError, MemoryError)
"""What using a file may raise, the last two where a message quotes damaged text, and
where a damaged size asks SQLite for more memory than there is."""

_ANEW = "Delete it when no process uses it; it will be made anew."
_ADVICE = {
    sqlite3.SQLITE_BUSY: "Another process keeps it locked.",
    sqlite3.SQLITE_CANTOPEN: "Make the file and its folder readable and writable.",
    sqlite3.SQLITE_CORRUPT: _ANEW,
    sqlite3.SQLITE_FULL: "Free some space on its disk.",
    sqlite3.SQLITE_IOERR: "Its disk may be full, or broken.",
    sqlite3.SQLITE_NOTADB: _ANEW,
    sqlite3.SQLITE_READONLY: "Make the file and its folder writable.",
}


def is_busy(error: BaseException) -> bool:
    """Tell whether another connection kept the file locked for too long."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_damage(error: BaseException) -> bool:
    """Tell whether a page of the file is not what SQLite wrote."""
    return _code(error) == sqlite3.SQLITE_CORRUPT


def is_foreign(error: BaseException) -> bool:
    """Tell whether the file is no database at all."""
    return _code(error) == sqlite3.SQLITE_NOTADB


def explain(error: BaseException) -> str:
    """Give SQLite's words, and what to do."""
    return f"{error}. {_ADVICE.get(_code(error), '')}".strip()


def _code(error: BaseException) -> int:
    """Give the kind of an error without its finer points, 0 where it has none."""
    if isinstance(error, (UnicodeDecodeError, MemoryError)):
        return sqlite3.SQLITE_CORRUPT
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
