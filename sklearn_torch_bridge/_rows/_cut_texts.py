"""Texts as token ids: encoded once and whole, then cut as their tokenizer cuts them."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sklearn_torch_bridge._rows._refused_texts import why_refused, without_refused
from sklearn_torch_bridge._tokenizers import lent

__all__ = ["Encoded", "encode_texts", "prompted", "shortest", "whole"]

_AT_ONCE = 1_000  # texts a call, so that lists of Python integers stay short
_PROBE = "a b c d e"

_Ids = dict[str, list[Sequence[int]]]


class Encoded(NamedTuple):
    """The ids of all texts in one run for each key, and how many each text has.

    `full_lengths` are those before it was cut. A text that the tokenizer fails on has
    none; `refused` are the errors and what is told of them, by row.
    """

    ids: dict[str, NDArray[np.int32]]
    lengths: NDArray[np.int64]
    full_lengths: NDArray[np.int64]
    refused: dict[int, tuple[Exception, str]]


def prompted(texts: Sequence[str], prompt: str) -> Sequence[str]:
    """Put a prompt before each text.

    >>> prompted(["a", "b"], "query: ")
    ['query: a', 'query: b']
    """
    return [prompt + text for text in texts] if prompt else texts


def shortest(tokenizer: Any, prompt: str) -> int:
    """Count the tokens of a text of one, with special ones and a prompt before it."""
    if prompt:
        with lent(tokenizer):
            return 1 + len(whole(tokenizer)([prompt])["input_ids"][0])
    count = getattr(tokenizer, "num_special_tokens_to_add", None)
    return 1 + (int(count()) if callable(count) else 0)


def whole(tokenizer: Any) -> Callable[..., Mapping[str, Any]]:
    """Return what encodes texts without cutting them, whatever their length."""
    return partial(tokenizer, truncation=False, **_quiet(tokenizer))


def encode_texts(
    texts: Sequence[str], tokenizer: Any, longest: int | None, prompt: str = ""
) -> Encoded:
    """Encode texts after a prompt, cut to `longest` tokens; None leaves them whole."""
    chunks: dict[str, list[NDArray[np.int32]]] = {}
    lengths: list[int] = []
    full_lengths: list[int] = []
    refused: dict[int, tuple[Exception, str]] = {}
    encode = whole(tokenizer)
    with lent(tokenizer):
        for start in range(0, len(texts), _AT_ONCE):
            part = list(prompted(texts[start : start + _AT_ONCE], prompt))
            encoded, failing = without_refused(encode, part)
            refused |= {
                start + place: (error, why_refused(part[place], error))
                for place, error in failing.items()
            }
            _check_one_a_token(encoded)
            counts = [len(ids) for ids in encoded["input_ids"]]
            full_lengths += counts
            if longest is not None and max(counts) > longest:
                _cut(encoded, part, tokenizer, longest)
                counts = [len(ids) for ids in encoded["input_ids"]]
            lengths += counts
            for name, rows in encoded.items():
                flat = np.fromiter(chain.from_iterable(rows), np.int32, sum(counts))
                chunks.setdefault(name, []).append(flat)
    ids = {name: np.concatenate(parts) for name, parts in chunks.items()}
    own, full = np.array(lengths, np.int64), np.array(full_lengths, np.int64)
    return Encoded(ids, own, full, refused)


def _quiet(tokenizer: Any) -> dict[str, Any]:
    """Return what keeps transformers from logging that a text is too long."""
    return {"verbose": False} if hasattr(tokenizer, "deprecation_warnings") else {}


def _check_one_a_token(encoded: _Ids) -> None:
    """Refuse keys of which a text has not one number a token."""
    counts = [len(ids) for ids in encoded["input_ids"]]
    for name, rows in encoded.items():
        if [len(row) for row in rows] != counts:
            msg = (
                f"`preprocess` must give one number a token, but its {name!r} has "
                "another length than 'input_ids'. Wrap it in a callable that returns "
                "what the model takes."
            )
            raise ValueError(msg)


def _cut(encoded: _Ids, texts: list[str], tokenizer: Any, longest: int) -> None:
    """Cut the ids of texts that are too long, where they are."""
    ids = encoded["input_ids"]
    cut = [place for place, row in enumerate(ids) if len(row) > longest]
    by_library = partial(tokenizer, truncation=True)
    part_of = _rule_of(tokenizer, by_library)
    if part_of is None:
        again = by_library([texts[place] for place in cut], max_length=longest)
        for name, rows in encoded.items():
            for place, row in zip(cut, again[name], strict=True):
                rows[place] = row
        return
    for rows in encoded.values():
        for place in cut:
            rows[place] = part_of(rows[place], longest)


def _rule_of(
    tokenizer: Any, by_library: Callable[..., Mapping[str, Any]]
) -> Callable[[Sequence[int], int], Sequence[int]] | None:
    """Return how a tokenizer cuts ids between its special tokens, if it does so.

    It is tried on a short text, at each length. None where the library has to cut.
    """
    try:
        asked = {"return_special_tokens_mask": True, **_quiet(tokenizer)}
        made = dict(tokenizer([_PROBE], **asked))
        special = np.array(made.pop("special_tokens_mask")[0], bool)
        n_before = int(np.argmin([*special, False]))
        n_behind = int(np.argmin([*special[::-1], False]))
        rule = partial(_part, n_before, n_behind, tokenizer.truncation_side == "left")
        alike = all(
            [*rule(rows[0], longest)] == [*tried[name][0]]
            for longest in range(n_before + n_behind + 1, special.size)
            for tried in [by_library([_PROBE], max_length=longest)]
            for name, rows in made.items()
        )
    except Exception:  # noqa: BLE001 - a tokenizer of another make
        return None
    return rule if alike else None


def _part(
    n_before: int, n_behind: int, from_left: bool, row: Sequence[int], longest: int
) -> Sequence[int]:
    """Return the ids of a text that are left, between its special tokens.

    >>> _part(1, 1, False, [0, 5, 6, 7, 8, 1], 4), _part(1, 1, True, [0, 5, 6, 7, 1], 4)
    ([0, 5, 6, 1], [0, 6, 7, 1])
    """
    stop = len(row) - n_behind
    n_kept = longest - n_before - n_behind
    start = stop - n_kept if from_left else n_before
    parts = (row[:n_before], row[start : start + n_kept], row[stop:])
    return [*chain.from_iterable(parts)]
