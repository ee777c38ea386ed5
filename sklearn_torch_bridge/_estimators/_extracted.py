"""The result of a call, and what was learnt of it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Extracted", "is_of_any_length", "no_rows"]

_TWO_AXES = 2


def is_of_any_length(learnt: NDArray[Any]) -> bool:
    """Return whether rows like those learnt, which have no tokens, are of any length.

    >>> is_of_any_length(np.empty((0, 0, 384))), is_of_any_length(np.empty((0, 384)))
    (True, False)
    """
    return learnt.ndim > _TWO_AXES and not learnt.shape[1]


@dataclass(frozen=True)
class Extracted:
    """The result, and how many of its columns each layer has."""

    array: NDArray[Any]
    widths: tuple[int, ...]
    layers: tuple[str, ...]

    @property
    def learnt(self) -> NDArray[Any]:
        """No rows like these; no tokens either, where rows are of any length."""
        if self.array.dtype != object:
            return np.empty_like(self.array[:0])
        like = self.array[0]
        return np.empty((0, 0, *like.shape[1:]), like.dtype)


def no_rows(learnt: NDArray[Any]) -> NDArray[Any]:
    """Return a result without rows, like the ones learnt."""
    return np.empty(0, object) if is_of_any_length(learnt) else learnt.copy()
