"""A copy of a module on a device, for one run; it shares storage with the module.

`eval`, hooks and devices concern the replica alone, which no other thread holds.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from sklearn_torch_bridge._devices import check_device, is_on
from sklearn_torch_bridge._pinned_memory import to_device
from sklearn_torch_bridge._replica._borrowed_module import borrowed, set_eval
from sklearn_torch_bridge._replica._module_copy import NotCopyableError, copy_module
from sklearn_torch_bridge._replica._random_state import kept_random_state
from sklearn_torch_bridge._replica._weights_on_device import weights_on_device
from sklearn_torch_bridge._tensor_bytes import lacks_memory

__all__ = ["replica"]


@contextmanager
def replica(
    module: nn.Module, device: str | torch.device
) -> Iterator[tuple[nn.Module, torch.device]]:
    """Yield a module that computes what `module` does in eval mode, and its device.

    Inside the block it is the caller's alone, and random generators are kept.
    """
    chosen = check_device(device)
    try:
        own = copy_module(module, partial(_copy_tensor, module, chosen))
    except NotCopyableError as reason:
        with borrowed(module, device, reason) as chosen, kept_random_state(chosen):
            yield module, chosen
    else:
        with kept_random_state(chosen):
            set_eval(own)
            if chosen.type != "cpu":
                _join_weights(own, module, chosen)
            yield own, chosen


def _copy_tensor(
    module: nn.Module, device: torch.device, tensor: torch.Tensor
) -> torch.Tensor:
    """Copy a buffer; share a parameter's storage, or one copy on another device."""
    if tensor.is_meta or is_lazy(tensor) or _is_freed(tensor):
        raise ValueError(_why_no_values(module, tensor))
    if isinstance(tensor, nn.Parameter):
        return weights_on_device(tensor, device)
    own = tensor.detach()
    return own.clone() if is_on(own, device) else to_device(own, device)


def _is_freed(tensor: torch.Tensor) -> bool:
    return tensor.layout is torch.strided and lacks_memory(tensor) is not None


def _why_no_values(module: nn.Module, tensor: torch.Tensor) -> str:
    tensors = (*module.named_parameters(), *module.named_buffers())
    name = next((name for name, one in tensors if one is tensor), "a tensor")
    if is_lazy(tensor):
        hint = "run one forward pass of the lazy module first."
        return f"`model` must know its shapes, but {name!r} is uninitialised: {hint}"
    hint = "load its weights first."
    if not tensor.is_meta:
        return f"`model` must hold values, but {name!r} was freed or resized: {hint}"
    return f"`model` must hold values, but {name!r} is on the meta device: {hint}"


def _join_weights(own: nn.Module, module: nn.Module, device: torch.device) -> None:
    """Join moved weights of recurrent layers, as cuDNN would at each call, and warn."""
    if all(is_on(weights, device) for weights in module.parameters()):
        return
    for part in own.modules():
        if isinstance(part, nn.RNNBase):
            part.flatten_parameters()
