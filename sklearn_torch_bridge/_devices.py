"""Devices: which there are, which is meant, and what is on one."""

from itertools import chain

import torch
from torch import nn

__all__ = [
    "available",
    "check_device",
    "current_accelerator",
    "device_types",
    "float_dtype",
    "is_on",
]


def current_accelerator() -> torch.device | None:
    """Return the accelerator of this machine, None where there is none to use."""
    # torch 2.7 has current_accelerator(check_available=True).
    is_available = torch.accelerator.is_available()
    return torch.accelerator.current_accelerator() if is_available else None


def device_types() -> set[str]:
    """Return the types of the devices that can be used here."""
    accelerator = current_accelerator()
    return {"cpu", accelerator.type} if accelerator else {"cpu"}


def check_device(device: str | torch.device) -> torch.device:
    """Return the device that `device` names; "auto" is the current accelerator."""
    if device == "auto":
        return current_accelerator() or torch.device("cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        msg = f"`device` must be 'auto' or a torch device, got {device!r}."
        raise ValueError(msg) from error
    if chosen.type == "cpu":  # to ask for others takes longer than all else here
        return chosen
    known = device_types()
    if chosen.type not in known:
        what = f"got {str(device)!r}; this machine has {', '.join(sorted(known))}"
        msg = f"`device` must be available, {what}."
        raise ValueError(msg)
    return chosen


def float_dtype(module: nn.Module) -> torch.dtype:
    """Return the dtype that a module computes in: of its first floating tensor."""
    tensors = chain(module.parameters(), module.buffers())
    floats = (tensor.dtype for tensor in tensors if tensor.is_floating_point())
    return next(floats, torch.get_default_dtype())


def is_on(tensor: torch.Tensor, device: torch.device) -> bool:
    """Check whether a tensor is on `device`, where "cuda" means any "cuda:k"."""
    own = tensor.device
    return own.type == device.type and device.index in (None, own.index)


def available(name: str) -> torch.device:
    """Return the device of that name, else one of its type, else the CPU."""
    kind, _, index = name.partition(":")
    if kind == "cpu" or kind not in device_types():
        return torch.device("cpu")
    is_here = int(index or 0) < torch.accelerator.device_count()
    return torch.device(name if is_here else kind)
