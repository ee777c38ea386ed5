"""Texts that a tokenizer fails on: found one by one, and given no tokens."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

__all__ = ["why_refused", "without_refused"]

_Encoded: TypeAlias = dict[str, list[Sequence[int]]]


def why_refused(text: object, reason: Exception) -> str:
    r"""Return why a text was refused: by a character that is none, or what was raised.

    >>> why_refused("ok \ud83d", TypeError("TextEncodeInput must be Union[...]"))
    "its character 3 is '\\ud83d', half of a pair, which no text has alone. ..."
    """
    for place, letter in enumerate(text) if isinstance(text, str) else ():
        if "\ud800" <= letter <= "\udfff":
            return (
                f"its character {place} is {letter!r}, half of a pair, which no text "
                "has alone. Decode it anew, or replace it by "
                "text.encode('utf-8', 'replace').decode()."
            )
    return f"{type(reason).__name__}: {reason}"


def without_refused(
    encode: Callable[[list[str]], Mapping[str, list[Sequence[int]]]], texts: list[str]
) -> tuple[_Encoded, dict[int, Exception]]:
    r"""Encode texts; return also which cannot be, and why, without tokens for these.

    >>> encode = lambda texts: {"input_ids": [list(text.encode()) for text in texts]}
    >>> encoded, refused = without_refused(encode, ["ab", "\ud83d"])
    >>> encoded, [*refused]
    ({'input_ids': [[97, 98], []]}, [1])
    """
    try:
        return dict(encode(texts)), {}
    except Exception:
        refused: dict[int, Exception] = {}
        for place, text in enumerate(texts):
            try:
                encode([text])
            except Exception as reason:  # noqa: BLE001 - a batch will raise it
                refused[place] = reason
        if not refused:
            raise
    usable = ["" if place in refused else text for place, text in enumerate(texts)]
    encoded: _Encoded = {}
    for name, rows in encode(usable).items():
        encoded[name] = [
            [] if place in refused else row for place, row in enumerate(rows)
        ]
    return encoded, refused
