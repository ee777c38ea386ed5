"""TODO _results._sink."""

from typing import Protocol

import torch

from sklearn_torch_bridge._types import Rows

__all__ = ["Sink"]


class Sink(Protocol):
    """Takes batches of results, in any order."""

    def write(self, rows: Rows, pieces: list[torch.Tensor]) -> int:
        """Take the pieces of a batch, one a reading, of rows of the feed.

        Tells how many rows of the caller's `X` they were.
        """

    def caller_rows(self, rows: Rows) -> Rows:
        """Give the rows of the caller's `X` that rows of the feed stand for."""
