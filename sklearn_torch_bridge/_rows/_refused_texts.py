"""Texts that a tokenizer fails on: found one by one, and given no tokens."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

__all__ = ["without_refused"]

_Encoded: TypeAlias = dict[str, list[Sequence[int]]]


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
