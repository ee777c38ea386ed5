"""What is noted of a row that was cut, in a cache or a file: length and maximum."""

import re
from typing import Any

from sklearn_torch_bridge.models import Maximum

__all__ = ["limit_of", "note_of", "read_limit", "read_note"]

_UNITS: dict[str, Any] = {"t": "tokens", "v": "values"}
_WHOSE: dict[str, Any] = {
    "t": "tokenizer",
    "p": "positions",
    "m": "model",
    "e": "extractor",
    "l": "max_length",
}
_LETTERS = {
    word: letter for words in (_UNITS, _WHOSE) for letter, word in words.items()
}
_LIMIT = re.compile(f"([0-9]{{1,18}})([{''.join(_UNITS)}])([{''.join(_WHOSE)}])")
_LENGTH = re.compile("[0-9]{1,18}")


def limit_of(maximum: Maximum) -> str:
    """Return a maximum as a few letters.

    >>> limit_of(Maximum(256, "tokens", "positions"))
    '256tp'
    """
    return f"{maximum.n}{_LETTERS[maximum.unit]}{_LETTERS[maximum.whose]}"


def read_limit(limit: str) -> Maximum | None:
    """Return the maximum that `limit_of` wrote; None for anything else.

    >>> print(read_limit("256tp"), read_limit("256"))
    256 tokens, the maximum of the model's positions None
    """
    found = _LIMIT.fullmatch(limit)
    if found is None:
        return None
    n, unit, whose = found.groups()
    return Maximum(int(n), _UNITS[unit], _WHOSE[whose])


def note_of(length: int, maximum: Maximum) -> str:
    """Return the note on a row of this length; "" where it was not cut.

    >>> maximum = Maximum(256, "tokens", "positions")
    >>> note_of(612, maximum), note_of(256, maximum)
    ('612/256tp', '')
    """
    return f"{length}/{limit_of(maximum)}" if length > maximum.n else ""


def read_note(note: str) -> tuple[int, Maximum] | None:
    """Return the length of a row and its maximum; None for what is no such note."""
    length, _, limit = note.partition("/")
    maximum = read_limit(limit)
    if maximum is None or not _LENGTH.fullmatch(length):
        return None
    return int(length), maximum
