r"""Pooling: reduce token or spatial axes to one vector per row.

Each function takes ``(hidden, mask)`` and returns a tensor of one row per sample:

- ``hidden`` of shape (n_samples, n_features) is returned unchanged, (n_samples,)
  becomes one column;
- (n_samples, n_tokens, n_features): `mean`, `max` and `last` use the tokens that `mask`
  keeps, `cls` is the first of them;
- (n_samples, n_channels, \*space) with one to three axes of space after a fourth:
  `mean` and `max` reduce space;
- `gap` and `gmp` reduce everything after the second axis, whatever the rank.

An extractor hands each of them the rows first. Where rows are padded, tokens come
second for `mean`, `max`, `last` and `cls`: two lengths show which axis has them. `gap`,
`gmp`, and `mean` and `max` of maps, take no mask: they get rows of one length. What
would make a vector as wide as a row is long, as `flatten` does, is an error there.

Maps of features have their channels second for ``"auto"`` and the names `mean`, `max`,
`gap` and `gmp`, wherever the model has them: the modules that ran before show it (a
layer normalisation or a linear layer over the last axis, a convolution over the
second), or else longer inputs, which space follows. Where these show nothing, the
second axis is taken for the channels', as torch has it. `flatten` and callables get the
layout of the model.

`mask` has shape (n_samples, n_tokens), True (or 1) = keep. Half types are averaged in
float32. A row of which no token is kept becomes NaN.
"""

from collections.abc import Callable

import torch

from sklearn_torch_bridge._types import Pool

__all__ = ["POOLINGS", "cls", "flatten", "gap", "gmp", "last", "max", "mean"]

_TOKENS, _SPACE = 3, (4, 5)


def mean(hidden: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    r"""Average over the tokens that `mask` keeps, or over space.

    Parameters
    ----------
    hidden : torch.Tensor of shape (n_samples, n_tokens, n_features)
        Or of shape (n_samples, n_channels, \*space), with four or five axes.
    mask : torch.Tensor of shape (n_samples, n_tokens), default=None
        True where a token is real. None keeps all.

    Returns
    -------
    Z : torch.Tensor of shape (n_samples, n_features)
        In the dtype of `hidden`; half and integer types become float32.

    Raises
    ------
    ValueError
        If `hidden` has more than five axes, or `mask` is not of its first two.

    Examples
    --------
    >>> hidden = torch.tensor([[[1.0], [3.0], [100.0]]])
    >>> mean(hidden, torch.tensor([[True, True, False]]))
    tensor([[2.]])
    """
    return _pool(hidden, mask, "mean", _mean_tokens, _mean_space)


def max(hidden: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:  # noqa: A001 - the field's word
    r"""Take the largest value over the tokens that `mask` keeps, or over space.

    Parameters
    ----------
    hidden : torch.Tensor of shape (n_samples, n_tokens, n_features)
        Or of shape (n_samples, n_channels, \*space), with four or five axes.
    mask : torch.Tensor of shape (n_samples, n_tokens), default=None
        True where a token is real. None keeps all.

    Returns
    -------
    Z : torch.Tensor of shape (n_samples, n_features)
        In the dtype of `hidden`; half and integer types become float32.

    Raises
    ------
    ValueError
        If `hidden` has more than five axes, or `mask` is not of its first two.

    Examples
    --------
    >>> hidden = torch.tensor([[[1.0], [3.0], [100.0]]])
    >>> max(hidden, torch.tensor([[True, True, False]]))
    tensor([[3.]])
    """
    return _pool(hidden, mask, "max", _max_tokens, _max_space)


def last(hidden: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Take the last token that `mask` keeps, whichever side is padded.

    Parameters
    ----------
    hidden : torch.Tensor of shape (n_samples, n_tokens, n_features)
        What a causal model returns: its last token has seen all others.
    mask : torch.Tensor of shape (n_samples, n_tokens), default=None
        True where a token is real. None keeps all.

    Returns
    -------
    Z : torch.Tensor of shape (n_samples, n_features)
        In the dtype of `hidden`; half and integer types become float32.

    Raises
    ------
    ValueError
        If `hidden` has more than three axes, or `mask` is not of its first two.

    Examples
    --------
    >>> hidden = torch.tensor([[[1.0], [3.0], [100.0]]])
    >>> last(hidden, torch.tensor([[True, True, False]]))
    tensor([[3.]])
    """
    return _pool(hidden, mask, "last", _last_token, None)


def cls(hidden: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Take the first token that `mask` keeps, where BERT puts ``[CLS]``.

    Parameters
    ----------
    hidden : torch.Tensor of shape (n_samples, n_tokens, n_features)
        What an encoder returns.
    mask : torch.Tensor of shape (n_samples, n_tokens), default=None
        True where a token is real. None keeps all.

    Returns
    -------
    Z : torch.Tensor of shape (n_samples, n_features)
        In the dtype of `hidden`; half and integer types become float32.

    Raises
    ------
    ValueError
        If `hidden` has more than three axes, or `mask` is not of its first two.

    Examples
    --------
    >>> cls(torch.tensor([[[1.0], [3.0], [100.0]]]))
    tensor([[1.]])
    """
    return _pool(hidden, mask, "cls", _first_token, None)


def gap(hidden: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Average over everything after the second axis (global average pooling).

    Parameters
    ----------
    hidden : torch.Tensor of shape (n_samples, n_channels, ...)
        For instance what a ``Conv1d`` returns.
    mask : torch.Tensor, default=None
        Not used, because it is for tokens.

    Returns
    -------
    Z : torch.Tensor of shape (n_samples, n_channels)
        In the dtype of `hidden`; half and integer types become float32.

    Examples
    --------
    >>> gap(torch.tensor([[[1.0, 3.0], [5.0, 5.0]]]))
    tensor([[2., 5.]])
    """
    return _mean_space(hidden) if hidden.ndim >= _TOKENS else _as_columns(hidden)


def gmp(hidden: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Take the largest value over everything after the second axis.

    Parameters
    ----------
    hidden : torch.Tensor of shape (n_samples, n_channels, ...)
        For instance what a ``Conv1d`` returns.
    mask : torch.Tensor, default=None
        Not used, because it is for tokens.

    Returns
    -------
    Z : torch.Tensor of shape (n_samples, n_channels)
        In the dtype of `hidden`; half and integer types become float32.

    Examples
    --------
    >>> gmp(torch.tensor([[[1.0, 3.0], [5.0, 5.0]]]))
    tensor([[3., 5.]])
    """
    return _max_space(hidden) if hidden.ndim >= _TOKENS else _as_columns(hidden)


def flatten(hidden: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Put all values of a row side by side.

    Parameters
    ----------
    hidden : torch.Tensor of shape (n_samples, ...)
        Any rank.
    mask : torch.Tensor, default=None
        Not used.

    Returns
    -------
    Z : torch.Tensor of shape (n_samples, n_features)
        A view of `hidden` where its layout allows it.

    Examples
    --------
    >>> flatten(torch.tensor([[[1, 3], [5, 5]]]))
    tensor([[1, 3, 5, 5]])
    """
    return _as_columns(hidden).flatten(1)


def _auto(hidden: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Stand for what a loaded model brings; where it brings nothing, average."""
    return mean(hidden, mask)


_FUNCTIONS = (mean, max, last, cls, gap, gmp, flatten)
POOLINGS: dict[str, Pool] = {"auto": _auto, **{f.__name__: f for f in _FUNCTIONS}}
"""The names that the parameter `pooling` accepts."""


def _pool(
    hidden: torch.Tensor,
    mask: torch.Tensor | None,
    name: str,
    over_tokens: Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor],
    over_space: Callable[[torch.Tensor], torch.Tensor] | None,
) -> torch.Tensor:
    """Apply the reduction for the number of axes of `hidden`."""
    if hidden.ndim < _TOKENS:
        return _as_columns(hidden)
    if hidden.ndim == _TOKENS:
        return over_tokens(_widen(hidden), _check_mask(mask, hidden))
    if over_space is None or hidden.ndim not in _SPACE:
        axes = "three axes" if over_space is None else "three to five axes"
        msg = (
            f"`pooling`={name!r} must have an output of at most {axes} to reduce, got "
            f"shape {tuple(hidden.shape)}. For spatial axes take 'gap' or 'gmp'; "
            "'flatten' keeps every value."
        )
        raise ValueError(msg)
    return over_space(hidden)


def _as_columns(hidden: torch.Tensor) -> torch.Tensor:
    """Convert one number per row to one column."""
    return hidden.unsqueeze(1) if hidden.ndim == 1 else hidden


def _widen(hidden: torch.Tensor) -> torch.Tensor:
    """Convert half and integer types to float32; return others unchanged."""
    wide = (torch.float32, torch.float64, torch.complex64, torch.complex128)
    return hidden if hidden.dtype in wide else hidden.float()


def _check_mask(mask: torch.Tensor | None, hidden: torch.Tensor) -> torch.Tensor | None:
    """Return the mask as bool on the device of `hidden`."""
    if mask is None:
        return None
    n_samples, n_tokens = hidden.shape[:2]
    if tuple(mask.shape) != (n_samples, n_tokens):
        msg = (
            "`mask` must have shape (n_samples, n_tokens) = "
            f"({n_samples}, {n_tokens}), got {tuple(mask.shape)}. Where the model "
            "shortens the token axis, or moves it, nothing says which entries are of "
            "padding: take a `layer` or an `output` before that, or a callable "
            "`pooling` that leaves the padding out; or run rows of one length, with a "
            "`preprocess` that gives no mask."
        )
        raise ValueError(msg)
    return mask.to(device=hidden.device, dtype=torch.bool)


def _mean_tokens(hidden: torch.Tensor, keep: torch.Tensor | None) -> torch.Tensor:
    if keep is None:
        return hidden.mean(1)
    # Not a product with the mask: 0 x NaN would let padding leak.
    kept = hidden.masked_fill(~keep.unsqueeze(-1), 0)
    return kept.sum(1) / keep.sum(1, keepdim=True)


def _max_tokens(hidden: torch.Tensor, keep: torch.Tensor | None) -> torch.Tensor:
    if keep is None:
        return hidden.amax(1)
    largest = hidden.masked_fill(~keep.unsqueeze(-1), -torch.inf).amax(1)
    return largest.masked_fill(~keep.any(1, keepdim=True), torch.nan)


def _first_token(hidden: torch.Tensor, keep: torch.Tensor | None) -> torch.Tensor:
    if keep is None:
        return hidden[:, 0]
    return _token_at(hidden, keep.int().argmax(1), keep)


def _last_token(hidden: torch.Tensor, keep: torch.Tensor | None) -> torch.Tensor:
    if keep is None:
        return hidden[:, -1]
    from_the_end = keep.int().flip(1).argmax(1)
    return _token_at(hidden, hidden.shape[1] - 1 - from_the_end, keep)


def _token_at(
    hidden: torch.Tensor, position: torch.Tensor, keep: torch.Tensor
) -> torch.Tensor:
    """Return one token of each row, NaN if the mask keeps none of it."""
    rows = torch.arange(len(hidden), device=hidden.device)
    return hidden[rows, position].masked_fill(~keep.any(1, keepdim=True), torch.nan)


def _mean_space(hidden: torch.Tensor) -> torch.Tensor:
    return _widen(hidden).flatten(2).mean(2)


def _max_space(hidden: torch.Tensor) -> torch.Tensor:
    return _widen(hidden).flatten(2).amax(2)
