"""A module and what it brings along."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

__all__ = ["LoadedModel"]


@dataclass(frozen=True)
class LoadedModel:
    """A module, its default `preprocess`, and how long it finds each text."""

    module: nn.Module
    preprocess: Any = None
    lengths: Callable[[Sequence[str]], NDArray[np.int64]] | None = None
