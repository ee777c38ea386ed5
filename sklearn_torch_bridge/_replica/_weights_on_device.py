"""Weights on a device: shared where they are there already, copied once where not."""

import threading
import weakref
from typing import Any

import torch
from torch import nn

from sklearn_torch_bridge._devices import is_on
from sklearn_torch_bridge._tensor_bytes import Checksum, tensor_checksum
from sklearn_torch_bridge._torch_private import make_parameter

__all__ = ["as_parameter", "data_on_device", "forget_copies"]

# By id and device: a reference that ends the entry, the contents copied, and the copy.
_COPIES: dict[tuple[int, str], tuple[Any, Checksum | None, torch.Tensor]] = {}
_LOCK = threading.Lock()


def data_on_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return the values of a tensor on `device`, with a version counter of their own.

    They share its memory, or that of a copy that is kept as long as `tensor` lives.
    """
    is_common = type(tensor) in (nn.Parameter, torch.Tensor)
    data = tensor.data if is_common else tensor.detach()
    return data if is_on(data, device) else _copy_on(tensor, device).data


def as_parameter(weights: torch.Tensor, data: torch.Tensor) -> torch.Tensor:
    """Make a frozen parameter of the kind of `weights`, with other values."""
    if type(weights) is nn.Parameter or type(data) is not torch.Tensor:
        result: torch.Tensor = nn.Parameter(data, requires_grad=False)
    else:
        result = make_parameter(type(weights), data, False)
    vars(result).update(vars(weights))
    return result


def forget_copies(tensor: torch.Tensor) -> None:
    """Forget the copies of a tensor on devices: a forward has written to one."""
    with _LOCK:
        for key in [key for key in _COPIES if key[0] == id(tensor)]:
            del _COPIES[key]


def _copy_on(weights: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return the copy that is kept as long as `weights` live, anew if they changed."""
    data = weights.detach()
    if data.device.type != "cpu" or type(data) is not torch.Tensor:
        return data.to(device)
    copies, key, now = _COPIES, (id(weights), str(device)), tensor_checksum(data)
    with _LOCK:
        _, copied, copy = copies.get(key, (None, None, data))
        if copied != now:
            copy = data.to(device)
            owner = weakref.ref(weights, lambda _: copies.pop(key, None))
            copies[key] = owner, now, copy
        return copy
