"""Tell models that only read their rows: those may see the caller's memory."""

import torch
from torch import nn

__all__ = ["only_reads"]

_READERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_METHODS = ("__call__", "_wrapped_call_impl", "_call_impl", "forward", "_conv_forward")


def _methods(cls: type[nn.Module]) -> list[object]:
    """List what runs when a module is called."""
    return [getattr(cls, name, None) for name in _METHODS]


# As torch has them: tools put others in their place.
_OF_TORCH = {cls: _methods(cls) for cls in (*_READERS, nn.Sequential)}


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
            return _has_plain_weights(part)
        if not (isinstance(part, nn.Sequential) and len(part)):
            return False
        part = part[0]
    return False


def _is_as_made(part: nn.Module) -> bool:
    """Tell whether calling a module runs the code of torch for its class alone."""
    cls, own = type(part), vars(part)
    return (
        cls in _OF_TORCH
        and _methods(cls) == _OF_TORCH[cls]
        and not (own["_forward_hooks"] or own["_forward_pre_hooks"])
        and not any(map(callable, own.values()))
    )


def _has_plain_weights(part: nn.Module) -> bool:
    """Tell whether weights are torch's own, whose functions are no code of others."""
    own = vars(part)["_parameters"]
    return set(own) == {"weight", "bias"} and all(
        value is None or type(value) is nn.Parameter for value in own.values()
    )
