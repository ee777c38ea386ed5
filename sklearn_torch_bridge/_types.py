"""Aliases and Protocols used in signatures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["Feed", "Indices", "Inputs", "Pool", "Preprocess", "Rows", "Selector"]

Indices = NDArray[np.intp]
"""Positions of rows."""

Rows = Indices | slice
"""Rows of a batch: a slice where they are neighbours, so that nothing is gathered."""

Pool = Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]
"""``(hidden, mask) -> Z``."""

Preprocess = Callable[[Sequence[Any]], Any]
"""A list of rows -> a tensor, a tuple of tensors, or a mapping of keyword arguments."""

Selector = str | int | None
"""The field of a model's output: a key, an attribute or an index."""


@dataclass(slots=True)
class Inputs:
    """Hold what one call of a model takes, and which of its tokens are real."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    mask: torch.Tensor | None = None


class Feed(Protocol):
    """Give rows in any order, ready for a model."""

    even: bool
    """Whether only rows of one length may share a batch."""

    @property
    def lengths(self) -> NDArray[np.int64] | None:
        """Count the tokens of each row, where rows differ: they decide the order."""

    @property
    def row_size(self) -> int | None:
        """Count the values of a row, where all have as many."""

    def __len__(self) -> int:
        """Count the rows."""

    def batch(self, rows: Rows) -> Inputs:
        """Prepare these rows, on the CPU; a model that may write gets its own copy."""
