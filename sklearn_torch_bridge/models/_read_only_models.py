"""Models that only read their rows: those may see the caller's memory."""

from torch import nn

from sklearn_torch_bridge._torch_private import has_global_hooks

__all__ = ["only_reads"]

_READERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_METHODS = ("__call__", "_wrapped_call_impl", "_call_impl", "forward", "_conv_forward")


def _methods(cls: type[nn.Module]) -> list[object]:
    """List what runs when a module is called."""
    return [getattr(cls, name, None) for name in _METHODS]


# As torch has them: tools put others in their place.
_OF_TORCH = {cls: _methods(cls) for cls in (*_READERS, nn.Sequential)}


def only_reads(module: nn.Module) -> bool:
    """Return whether `module` surely neither writes to its input nor returns it.

    So it is with an `nn.Sequential`, however nested, that begins with a linear layer
    or a convolution. Of other code nobody knows: a layer that works in place writes
    to what it is given. What hooks, subclasses and replaced methods do is as unknown.

    >>> only_reads(nn.Sequential(nn.Linear(3, 2), nn.ReLU(inplace=True)))
    True
    >>> only_reads(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 2)))
    False
    """
    if has_global_hooks():
        return False
    part = module
    while _is_as_made(part):
        if type(part) in _READERS:
            own = vars(part)["_parameters"]  # of torch's class: without code of others
            return own.keys() == {"weight", "bias"} and all(
                value is None or type(value) is nn.Parameter for value in own.values()
            )
        if not (isinstance(part, nn.Sequential) and len(part)):
            return False
        part = part[0]
    return False


def _is_as_made(part: nn.Module) -> bool:
    """Return whether a call of a module runs torch's code for its class alone."""
    cls, own = type(part), vars(part)
    return (
        cls in _OF_TORCH
        and _methods(cls) == _OF_TORCH[cls]
        and not (own["_forward_hooks"] or own["_forward_pre_hooks"])
        and not any(map(callable, own.values()))
    )
