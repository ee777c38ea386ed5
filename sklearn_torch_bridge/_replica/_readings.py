"""What to take of a forward pass, and the errors in taking it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from sklearn_torch_bridge._replica._rows_in_values import RowCountError
from sklearn_torch_bridge._types import Pool, Selector
from sklearn_torch_bridge.pooling import POOLINGS

__all__ = [
    "ReadError",
    "Reading",
    "carried",
    "check_tensor",
    "pooled_by",
    "why_missing",
]

_MOST_NAMES = 5
_TWO_AXES = 2


@dataclass(frozen=True)
class Reading:
    """What to take of each forward pass: a layer ("" is the model's output), pooled.

    Weights that are `missing` in the model's files are NaN, and so is what needs them.
    `hear` is told how many axes a value has before it is pooled.
    """

    layer: str = ""
    output: Selector = None
    pool: Pool | None = None
    needs_vector: bool = False
    missing: tuple[str, ...] = ()
    hear: Callable[[int], object] | None = field(default=None, compare=False)

    @property
    def has_own_pool(self) -> bool:
        """Whether vectors are made by a callable that is none of ours."""
        return self.pool is not None and self.pool not in POOLINGS.values()


@dataclass(eq=False)
class ReadError(Exception):
    """Carries an error of ours, in reading a layer, through the model's forward.

    With `of_batch` there was another number of results than of rows: one row alone
    might pass, and mean something else.
    """

    reason: Exception
    layer: str
    of_batch: bool = False


def carried(error: Exception, layer: str) -> ReadError:
    """Return an error as one that passes through the forward of a model."""
    return ReadError(error, layer, of_batch=isinstance(error, RowCountError))


def check_tensor(value: Any) -> None:
    """Check that a model, or a pooling, has given a tensor."""
    if not isinstance(value, torch.Tensor):
        msg = (
            f"what is read off the model must be a tensor, got {type(value).__name__}. "
            "Choose a tensor with `output`, or tap another `layer`."
        )
        raise TypeError(msg)


def why_missing(names: tuple[str, ...]) -> str:
    """Return why a value is NaN: weights of these names are in no file."""
    shown = ", ".join(map(repr, names[:_MOST_NAMES]))
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return (
        "`model` must have all weights that the value taken depends on, but its files "
        f"lack {shown}{more}, and it is NaN without. Complete the files, or take a "
        "`layer` or an `output` that needs none of them."
    )


def pooled_by(
    reading: Reading,
    hidden: torch.Tensor,
    mask: torch.Tensor | None,
    n_rows: int,
) -> torch.Tensor:
    """Return one vector per row; numbers become a column."""
    pooled = hidden if reading.pool is None else reading.pool(hidden, mask)
    check_tensor(pooled)
    if pooled.shape[:1] != (n_rows,):
        msg = (
            "`pooling` must return one vector per row, and gets the rows on the "
            f"first axis: got shape {tuple(pooled.shape)} for {n_rows} rows, of "
            f"{tuple(hidden.shape)}."
        )
        raise RowCountError(msg)
    if pooled.ndim == 1:
        return pooled.unsqueeze(1)
    if pooled.ndim != _TWO_AXES and reading.needs_vector:
        msg = (
            "`pooling` must leave one vector per row, got shape "
            f"{tuple(pooled.shape)}. Take `pooling`='mean' or 'flatten'."
        )
        raise ValueError(msg)
    return pooled
