"""The first columns of what a model gives, as they go into the caller's result."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sklearn_torch_bridge._types import Tokens

__all__ = ["FirstColumns"]

_MOST_AXES = 3  # of rows, tokens and features


@dataclass(frozen=True)
class FirstColumns:
    """Keeps so many columns of each piece, and brings rows to length 1 if asked to.

    Pieces are those of a batch, or of a cache: tensors, arrays, tokens, or lists of
    arrays. `layers` are what they are read off.
    """

    n_kept: int
    normalizes: bool = False
    layers: tuple[str, ...] = ()

    def __call__(self, pieces: Sequence[Any]) -> list[Any]:
        """Return the same pieces, but narrower."""
        return [self._of(piece, place) for place, piece in enumerate(pieces)]

    def _of(self, piece: Any, place: int) -> Any:
        if isinstance(piece, list):
            return [self._of_values(entry, entry.ndim + 1, place) for entry in piece]
        if isinstance(piece, Tokens):
            values = piece.values
            return Tokens(self._of_values(values, _MOST_AXES, place), piece.lengths)
        return self._of_values(piece, piece.ndim, place)

    def _of_values(self, values: Any, n_axes: int, place: int) -> Any:
        """Take the first entries along the last axis; with the rows there are three."""
        if n_axes > _MOST_AXES:
            msg = (
                "`truncate_dim` must be None for rows of more axes than tokens and "
                f"features, got rows of shape {tuple(values.shape[1:])}. Name a "
                "`pooling`, which leaves one vector a row."
            )
            raise ValueError(msg)
        width = values.shape[-1]
        if self.n_kept > width:
            where = f" of layer {self.layers[place]!r}" if self.layers else ""
            msg = (
                f"`truncate_dim` must be at most the width of `Z`, {width}{where}, got "
                f"{self.n_kept}."
            )
            raise ValueError(msg)
        kept = values[..., : self.n_kept]
        return _of_length_1(kept) if self.normalizes else kept


def _of_length_1(vectors: Any) -> Any:
    """Bring vectors to length 1, half types in float32; those of zeros stay."""
    if isinstance(vectors, np.ndarray):
        return _of_length_1(torch.from_numpy(np.array(vectors))).numpy()
    if not (vectors.is_floating_point() or vectors.is_complex()):
        vectors = vectors.to(torch.float64)
    wide = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
    return torch.nn.functional.normalize(wide, dim=-1)
