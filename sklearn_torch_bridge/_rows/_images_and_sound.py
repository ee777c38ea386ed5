"""Images, sound and paths of these: rows that the model's own processor opens."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sklearn_torch_bridge._convert import deep_fault
from sklearn_torch_bridge._rows._base import CheckedRows, Feed, Kind, Receiver
from sklearn_torch_bridge._rows._entry_faults import is_array, is_missing
from sklearn_torch_bridge._rows._given_input import (
    Given,
    as_entries,
    is_number,
    needs_preprocess,
)
from sklearn_torch_bridge._rows._missing_or_nan import without_bad
from sklearn_torch_bridge._rows._preprocessed import preprocessed_feed
from sklearn_torch_bridge._rows._texts import TEXTS
from sklearn_torch_bridge._tokenizers import is_tokenizer
from sklearn_torch_bridge._types import Indices

__all__ = ["FILES", "MEDIA", "as_file", "is_foreign", "raw_media"]

_GREY_AND_COLOURED = {2, 3}  # axes


class _Media(Kind):
    """Images and sound in memory, for the processor given or the model's own."""

    name = "images or sound"

    def recognises(self, given: Given) -> bool:
        if given.entries is None:
            return False
        if given.preprocess is not None:
            return given.all_missing or not is_number(given.first)
        if is_array(given.first) and given.brings:  # pictures, of which some are grey
            return {len(shape) for shape in given.shapes} == _GREY_AND_COLOURED
        return is_foreign(given.first)

    def check(self, given: Given) -> CheckedRows:
        if given.preprocess is None and not given.brings:
            raise needs_preprocess(given.first)
        return self._check_entries(as_entries(given.X), given)

    def _check_entries(self, rows: list[Any], given: Given) -> CheckedRows:
        entries = [as_file(row) for row in rows]
        bad, reason = _missing_entries(entries)
        return without_bad(self, entries, bad, given, lambda: ValueError(reason))

    def feed(self, values: Any, receiver: Receiver) -> Feed:
        loaded = receiver.loaded
        brought = loaded.media or loaded.preprocess
        if loaded.media is None and (brought is None or is_tokenizer(brought)):
            raise needs_preprocess(values[0])
        return preprocessed_feed(values, brought, receiver)


class _Files(_Media):
    """Paths, written as str, where the model opens files."""

    name = "files"

    def recognises(self, given: Given) -> bool:
        return TEXTS.recognises(given) and given.takes_files()

    def check(self, given: Given) -> CheckedRows:
        given.check_frame()
        entries = [
            Path(name) if isinstance(name, str) else name
            for name in as_entries(given.X)
        ]
        return self._check_entries(entries, given)


MEDIA, FILES = _Media(), _Files()


def raw_media(rows: Any, receiver: Receiver) -> bool:
    """Return whether the model's own processor takes arrays as these: pictures, say."""
    takes = getattr(receiver.loaded.media, "takes", None)
    if takes is None or not len(rows):
        return False
    return bool(takes(tuple(rows[0].shape), rows[0].dtype))


def is_foreign(value: Any) -> bool:
    """Return whether no array holds such a row: an image, a path, a dict."""
    number = isinstance(value, (int, float, complex, np.generic, type(None)))
    sequence = hasattr(value, "__len__") and not isinstance(value, Mapping)
    return not number and not sequence and not hasattr(value, "__array__")


def as_file(row: Any) -> Any:
    """Return the path of a file that a mapping only names, so that its content counts.

    >>> as_file({"bytes": None, "path": "a.wav"}).name, as_file({"array": [1.0]})
    ('a.wav', {'array': [1.0]})
    """
    if not isinstance(row, Mapping) or row.keys() != {"bytes", "path"}:
        return row
    names_file = isinstance(row["path"], (str, os.PathLike))
    return Path(row["path"]) if row["bytes"] is None and names_file else row


def _missing_entries(entries: list[Any]) -> tuple[Indices, str]:
    """Find entries that are missing, or files that are not there, and why the first."""
    bad: list[int] = []
    reason = ""
    for row, value in enumerate(entries):
        if is_missing(value):
            why = "is missing"
        elif fault := deep_fault(value):
            why = fault
        elif isinstance(value, os.PathLike) and not os.path.exists(value):  # noqa: PTH110 - any path-like object
            why = f"names a file that is not there: {os.fspath(value)!r}"
        else:
            continue
        reason = reason or f"row {row} of `X` {why}."
        bad.append(row)
    return np.array(bad, np.intp), reason
