"""Which axes of a value follow the number of tokens, and what that means for a pooling.

An axis as long as the mask may be the channels' by chance: two lengths show which are
the tokens'. Rows are padded along these, so that poolings which take no mask get rows
of one length, and none makes vectors whose width is the number of tokens.
"""

from collections.abc import Callable, Sequence

import torch

from sklearn_torch_bridge._types import Pool, UnevenBatchError
from sklearn_torch_bridge.pooling import POOLINGS

__all__ = [
    "ONE_LENGTH",
    "changed_axes",
    "needs_tokens",
    "padded",
    "with_tokens",
    "without_first",
]

_TWO_AXES, _THREE_AXES = 2, 3
_WITHOUT_MASK = frozenset(POOLINGS[name] for name in ("gap", "gmp", "flatten"))
_NAMED = frozenset(POOLINGS.values())

ONE_LENGTH = (-1,)
"""Instead of axes: the model runs with one number of tokens alone."""


def needs_tokens(
    pool: Pool | None, shape: Sequence[int], mask: torch.Tensor | None
) -> bool:
    """Return whether a pooling with a name needs to know where the tokens are."""
    if mask is None or pool not in _NAMED or len(shape) < _TWO_AXES:
        return False
    return len(shape) > _TWO_AXES or shape[1] == mask.shape[1]


def changed_axes(shape: Sequence[int], other: Sequence[int]) -> tuple[int, ...] | None:
    """Return the axes that differ, but for the rows'; None for another rank.

    >>> changed_axes((2, 8, 5), (1, 8, 3))
    (2,)
    """
    if len(shape) != len(other):
        return None
    pairs = enumerate(zip(shape, other, strict=True))
    return tuple(axis for axis, (own, its) in pairs if axis and own != its)


def with_tokens(
    pool: Pool | None,
    hidden: torch.Tensor,
    mask: torch.Tensor,
    axes: tuple[int, ...],
    is_fixed: Callable[[], bool],
) -> torch.Tensor:
    """Return a value as a pooling takes it, with its tokens second, or raise.

    `axes` follow the number of tokens; `is_fixed` says whether rows are padded to one
    length also alone, which the model then is meant to read.
    """
    shape, n_tokens = tuple(hidden.shape), mask.shape[1]
    if hidden.ndim == _THREE_AXES and pool not in _WITHOUT_MASK:
        as_long = [axis for axis in (1, 2) if shape[axis] == n_tokens]
        if axes == ONE_LENGTH:
            axes = tuple(as_long)
        if len(axes) == 1 and axes[0] in as_long:
            return hidden.movedim(axes[0], 1)
        if 1 in as_long:
            raise _no_tokens(shape, n_tokens, axes)
        return hidden  # of which the pooling says that it does not fit the mask
    if axes in ((), ONE_LENGTH):
        return hidden
    keeps_all = pool is POOLINGS["flatten"] or hidden.ndim < _THREE_AXES
    if (keeps_all or 1 in axes) and not is_fixed():
        raise _of_any_width(shape, n_tokens, axes)
    lengths = mask.sum(1).tolist()
    if len(set(lengths)) > 1 and not is_fixed():
        raise UnevenBatchError.grouped(lengths)
    return hidden


def _no_tokens(
    shape: tuple[int, ...], n_tokens: int, axes: tuple[int, ...]
) -> ValueError:
    """Return the error for an axis that is as long as the mask by chance."""
    which = " and ".join(map(str, axes)) if axes else "none"
    msg = (
        "`pooling` must find one axis of tokens, to leave out those that pad a row, "
        f"but of an output of shape {shape} for {n_tokens} tokens it is axis {which} "
        "that follows their number. Tap another `layer`, or give a callable `pooling`, "
        "which gets the mask."
    )
    return ValueError(msg)


def _of_any_width(
    shape: tuple[int, ...], n_tokens: int, axes: tuple[int, ...]
) -> ValueError:
    which = " and ".join(map(str, axes))
    msg = (
        "`pooling` must make vectors of one width, without what pads a row, but of an "
        f"output of shape {shape} for {n_tokens} tokens axis {which} follows their "
        "number, and would be among the features. Take 'mean', 'max', 'cls' or 'last', "
        "which leave padding out, None for the tokens of each row, or a callable "
        "`pooling`, which gets the mask; or have `preprocess` pad to one length."
    )
    return ValueError(msg)


def padded(nested: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad nested rows, as of `torch.nn.TransformerEncoder`; return their mask too."""
    rows = list(nested.unbind())
    lengths = torch.tensor([[len(row)] for row in rows], device=nested.device)
    whole = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return whole, torch.arange(whole.shape[1], device=nested.device) < lengths


def without_first(mask: torch.Tensor, n_tokens: int) -> torch.Tensor:
    """Return a mask without the first tokens that it keeps, whichever side is padded.

    >>> without_first(torch.tensor([[0, 1, 1], [1, 1, 1]]), 1)
    tensor([[False, False,  True],
            [False,  True,  True]])
    """
    if not n_tokens:
        return mask
    keep = mask.to(torch.bool)
    return keep & (keep.cumsum(1) > n_tokens)
