"""Which errors a cache file may raise, what they mean, and what to do about them."""

import sqlite3

__all__ = ["FILE_ERRORS", "code_of", "explain", "is_busy"]

FILE_ERRORS = (sqlite3.Error, OSError, UnicodeDecodeError, MemoryError)
"""What using a file may raise: the last two where a message quotes damaged text, and
where a damaged size makes SQLite ask for more memory than there is."""

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
    """Return whether another connection kept the file locked for too long."""
    return code_of(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def explain(error: BaseException) -> str:
    """Return SQLite's message, with advice."""
    return f"{error}. {_ADVICE.get(code_of(error), '')}".strip()


def code_of(error: BaseException) -> int:
    """Return the primary code of an error, 0 where it has none."""
    if isinstance(error, (UnicodeDecodeError, MemoryError)):
        return sqlite3.SQLITE_CORRUPT
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
