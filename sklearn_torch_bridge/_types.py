"""Aliases and Protocols used in signatures; which dtypes are numbers."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = [
    "NUMERIC_KINDS",
    "REAL_KINDS",
    "Indices",
    "Inputs",
    "Piece",
    "Pool",
    "Preprocess",
    "Rows",
    "Selector",
    "Tokens",
    "TooLong",
    "UnevenBatchError",
    "Windows",
]

REAL_KINDS = "biuf"
"""Kinds of NumPy dtypes: booleans, integers and floats."""

NUMERIC_KINDS = "biufc"
"""The same, and complex numbers."""

Indices = NDArray[np.intp]
"""Positions of rows."""

Rows = Indices | slice
"""Rows of a batch: a slice where they are neighbours, so that nothing is gathered."""

Pool = Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]
"""``(hidden, mask) -> Z``."""

Preprocess = Callable[[Sequence[Any]], Any]
"""A list of rows -> a tensor, a tuple of tensors, or a mapping of keyword arguments."""

Selector = str | int | tuple[str | int, ...] | None
"""The field of a model's output: a key, attribute or index, or a tuple of them."""


@dataclass(frozen=True)
class Tokens:
    """Rows of different length, one after the other: `lengths` of `values` for each.

    >>> Tokens(torch.arange(5), [2, 3])[:1]
    Tokens(values=tensor([0, 1]), lengths=[2])
    """

    values: torch.Tensor
    lengths: list[int]

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, first: slice) -> "Tokens":
        """Return the rows up to ``first.stop``."""
        lengths = self.lengths[: first.stop]
        return Tokens(self.values[: sum(lengths)], lengths)


Piece = torch.Tensor | Tokens
"""What one layer gives for the rows of a batch."""


class UnevenBatchError(Exception):
    """A batch cannot be run as one: `parts` of it can, by positions in the batch."""

    def __init__(self, parts: Sequence[Indices]) -> None:
        super().__init__(parts)
        self.parts = parts

    @classmethod
    def grouped(cls, kinds: Sequence[Hashable]) -> "UnevenBatchError":
        """Part a batch by the kind of each row.

        >>> UnevenBatchError.grouped(["a", "b", "a"]).parts
        [array([0, 2]), array([1])]
        """
        places: dict[Hashable, list[int]] = {}
        for place, kind in enumerate(kinds):
            places.setdefault(kind, []).append(place)
        return cls([np.array(part, np.intp) for part in places.values()])


@dataclass(slots=True)
class Inputs:
    """What one call of a model takes, and which of its tokens are real.

    The first `n_prompt` of the real tokens of each row enter no pooling.
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    mask: torch.Tensor | None = None
    n_prompt: int = 0


# Its parameters are the fields, which numpydoc cannot read off the source.
@dataclass(frozen=True, kw_only=True)
class Windows:  # numpydoc ignore=PR02
    """Long rows are read whole, in windows of the model's maximum.

    Parameters
    ----------
    overlap : int, default=0
        How much of a window is that before it again, in the unit of `max_length`; less
        than what a window holds beside its special tokens and the prompt.

    Notes
    -----
    A row of n tokens costs about ``n / (1 - overlap / m)`` in windows of m. What is in
    two windows counts twice in a mean.

    Examples
    --------
    >>> from sklearn_torch_bridge import Windows
    >>> Windows(overlap=16)
    Windows(overlap=16)
    """

    overlap: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.overlap, bool) or not isinstance(self.overlap, int):
            msg = f"`overlap` must be an int of at least 0, got {self.overlap!r}."
            raise TypeError(msg)
        if self.overlap < 0:
            msg = f"`overlap` must be an int of at least 0, got {self.overlap!r}."
            raise ValueError(msg)


TooLong = Literal["warn", "cut", "windows", "raise"] | Windows
"""What `too_long` may be."""
