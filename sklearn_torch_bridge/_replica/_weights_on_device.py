"""Weights on a device: shared where they are there already, copied once where not."""

import threading
import weakref
from typing import Any

import torch
from torch import nn

from sklearn_torch_bridge._devices import is_on
from sklearn_torch_bridge._tensor_bytes import Checksum, tensor_checksum
from sklearn_torch_bridge._torch_private import make_parameter

__all__ = ["weights_on_device"]

# By id and device: a reference that ends the entry, the contents copied, and the copy.
_COPIES: dict[tuple[int, str], tuple[Any, Checksum | None, torch.Tensor]] = {}
_LOCK = threading.Lock()


def weights_on_device(weights: nn.Parameter, device: torch.device) -> torch.Tensor:
    """Return a frozen parameter on `device` of the kind of `weights`."""
    data = weights.detach()
    if not is_on(data, device):
        data = _copy_on(weights, device)
    if type(weights) is nn.Parameter or type(data) is not torch.Tensor:
        result: torch.Tensor = nn.Parameter(data, requires_grad=False)
    else:
        result = make_parameter(type(weights), data, False)
    vars(result).update(vars(weights))
    return result


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
