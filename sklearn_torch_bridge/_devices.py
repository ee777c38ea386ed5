"""TODO _devices."""

from itertools import chain

import torch
from torch import nn

__all__ = ["check_device", "float_dtype"]


def check_device(device: str | torch.device) -> torch.device:
    """Return the device that `device` names; "auto" is the current accelerator."""
    accelerator = (
        torch.accelerator.current_accelerator()
        if torch.accelerator.is_available()
        else None
    )
    if device == "auto":
        return accelerator or torch.device("cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        msg = f"`device` must be 'auto' or a torch device, got {device!r}."
        raise ValueError(msg) from error
    here = {"cpu"} | ({accelerator.type} if accelerator else set())
    if chosen.type not in here:
        msg = (
            f"`device` must be available, got {str(device)!r}; this machine has "
            f"{', '.join(sorted(here))}."
        )
        raise ValueError(msg)
    return chosen


def float_dtype(module: nn.Module) -> torch.dtype:
    """Give the dtype that a module computes in: of its first floating tensor."""
    for tensor in chain(module.parameters(), module.buffers()):
        if tensor.is_floating_point():
            return tensor.dtype
    return torch.get_default_dtype()


def is_on(tensor: torch.Tensor, device: torch.device) -> bool:
    """Tell whether a tensor is on `device`, where "cuda" means any "cuda:k"."""
    return tensor.device.type == device.type and device.index in (
        None,
        tensor.device.index,
    )
