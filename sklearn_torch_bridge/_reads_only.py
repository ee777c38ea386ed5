"""Tell models that only read their rows: those may see the caller's memory."""

import torch
from torch import nn

__all__ = ["only_reads"]

_READERS = frozenset({nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d})


def only_reads(module: nn.Module) -> bool:
    """Tell whether `module` is known neither to write to its input nor to give it on.

    So it is with an `nn.Sequential`, however nested, that begins with a linear layer
    or a convolution. Of other code nobody can tell: a layer that works in place writes
    to what it is given. What hooks, subclasses and replaced methods do is as unknown.

    >>> only_reads(nn.Sequential(nn.Linear(3, 2), nn.ReLU(inplace=True)))
    True
    >>> only_reads(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 2)))
    False
    """
    if torch.nn.modules.module._has_any_global_hook():  # type: ignore[no-untyped-call]  # noqa: SLF001 - what torch itself asks before each call
        return False
    part = module
    while _is_as_made(part):
        if type(part) in _READERS:
            return all(type(one) is nn.Parameter for one in part.parameters())
        if type(part) is not nn.Sequential or not len(part):
            return False
        part = part[0]
    return False


def _is_as_made(part: nn.Module) -> bool:
    """Tell whether calling a module is calling the forward of its class alone."""
    own = vars(part)
    return not (own["_forward_hooks"] or own["_forward_pre_hooks"] or "forward" in own)
