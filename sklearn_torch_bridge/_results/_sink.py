"""What any place for results can do; a new output format is a file beside this one."""

from collections.abc import Sequence
from typing import Protocol

from sklearn_torch_bridge._types import Piece, Rows

__all__ = ["Sink"]


class Sink(Protocol):
    """A place for batches of results, in any order."""

    def write(self, rows: Rows, pieces: Sequence[Piece]) -> int:
        """Write the pieces of a batch, one a reading; count the rows of `X` done."""

    def caller_rows(self, rows: Rows) -> Rows:
        """Return the rows of the caller's `X` that rows of the feed stand for."""
