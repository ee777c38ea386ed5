"""Aliases and Protocols used in signatures; which dtypes are numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = [
    "NUMERIC_KINDS",
    "REAL_KINDS",
    "Indices",
    "Inputs",
    "Pool",
    "Preprocess",
    "Rows",
    "Selector",
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

Selector = str | int | None
"""The field of a model's output: a key, an attribute or an index."""


@dataclass(slots=True)
class Inputs:
    """What one call of a model takes, and which of its tokens are real."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    mask: torch.Tensor | None = None
