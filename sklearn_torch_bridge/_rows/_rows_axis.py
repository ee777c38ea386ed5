"""Layers of torch's own that take time steps where rows are: they would mix rows."""

from torch import nn

__all__ = ["check_rows_axis"]

_TWO_AXES, _THREE_AXES = 2, 3
_OF_SEQUENCES = (nn.GRU, nn.LSTM, nn.RNN, nn.MultiheadAttention)


def check_rows_axis(module: nn.Module, ndim: int) -> None:
    """Refuse a model whose first layer takes the first of `ndim` axes for steps.

    There would be no error where there are as many rows as steps.
    """
    part = module
    while type(part) is nn.Sequential and len(part) and not _has_pre_hook(part):
        part = part[0]
    name, is_prepared = type(part).__name__, _has_pre_hook(part)
    if type(part) is nn.TransformerEncoder and len(part.layers):
        part = part.layers[0]
    if type(part) is nn.TransformerEncoderLayer:
        part = part.self_attn
    if type(part) not in _OF_SEQUENCES or is_prepared:
        return
    if ndim == _TWO_AXES:
        msg = (
            "`X` must have an axis of steps between its rows and their features for a "
            f"{name}, which would take the rows for steps. Give X[:, None], or "
            "X[:, :, None]."
        )
        raise ValueError(msg)
    if ndim == _THREE_AXES and not part.batch_first:
        msg = (
            f"`model` must have rows on the first axis: make its {name} with "
            "batch_first=True."
        )
        raise ValueError(msg)


def _has_pre_hook(module: nn.Module) -> bool:
    """Return whether a hook may change what a module is given."""
    return bool(vars(module)["_forward_pre_hooks"])
