"""Keep results of code that changes what it reads out of caches and files.

A key stands for a row and for settings as they were. Where `preprocess` or a pooling
changes, as it runs, what it reads itself, a row's vector depends on the rows before it.
"""

import time
from collections.abc import Sequence
from typing import Any

import torch

from sklearn_torch_bridge._digest import digest, is_user_code
from sklearn_torch_bridge._errors import FingerprintError
from sklearn_torch_bridge._results import Sink
from sklearn_torch_bridge._types import Piece, Rows, Tokens

__all__ = ["Steadiness", "SteadySink"]

_SHARE = 20  # of the time of a run, at most one part goes into looking
_MOST_BYTES = 1 << 26  # of results that wait for it


class Steadiness:
    """What the user's callables read, as it was when this was made."""

    def __init__(self, callables: Sequence[tuple[str, Any]]) -> None:
        self._callables = [pair for pair in callables if is_user_code(pair[1])]
        self._before = self._look()
        self._due = 0.0

    def __bool__(self) -> bool:
        return bool(self._callables)

    def is_due(self) -> bool:
        """Return whether it is time to look again."""
        return time.monotonic() >= self._due

    def check(self) -> None:
        """Raise `FingerprintError` if a callable has changed what it reads."""
        begin = time.monotonic()
        now, end = self._look(), time.monotonic()
        self._due = end + _SHARE * (end - begin)
        for (name, _), found, before in zip(
            self._callables, now, self._before, strict=True
        ):
            if found != before:
                msg = (
                    f"`{name}` cannot be fingerprinted: it has changed, as it ran, "
                    "what it reads (an attribute, a list, a global?), so that what "
                    "becomes of a row depends on the rows before it. Set it before the "
                    "first row, or give `cache_key`, a str that you change whenever "
                    "this would change the result."
                )
                raise FingerprintError(msg)

    def _look(self) -> list[bytes]:
        return [
            digest(value, lenient=True, within_run=True) for _, value in self._callables
        ]


class SteadySink:
    """A sink that hands on results once it is known that nothing has changed."""

    def __init__(self, sink: Sink, steadiness: Steadiness) -> None:
        self._sink = sink
        self._steadiness = steadiness
        self._waiting: list[tuple[Rows, list[Piece]]] = []
        self._n_bytes = 0

    def write(self, rows: Rows, pieces: Sequence[Piece]) -> int:
        """Take the pieces of a batch; count the rows of the caller's `X` handed on."""
        self._waiting.append((rows, [*map(_copied, pieces)]))
        self._n_bytes += sum(_values(piece).nbytes for piece in pieces)
        is_due = self._steadiness.is_due() or self._n_bytes > _MOST_BYTES
        return self.finish() if is_due else 0

    def finish(self) -> int:
        """Hand on all that waits; count the rows of the caller's `X`."""
        if self._waiting:
            self._steadiness.check()
        with torch.inference_mode():  # in which the pieces were made
            n_rows = sum(self._sink.write(*batch) for batch in self._waiting)
        self._waiting, self._n_bytes = [], 0
        return n_rows

    def caller_rows(self, rows: Rows) -> Rows:
        """Return the rows of the caller's `X` that rows of the feed stand for."""
        return self._sink.caller_rows(rows)


def _values(piece: Piece) -> torch.Tensor:
    return piece.values if isinstance(piece, Tokens) else piece


def _copied(piece: Piece) -> Piece:
    values = _values(piece).clone()
    return Tokens(values, piece.lengths) if isinstance(piece, Tokens) else values
