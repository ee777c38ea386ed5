"""A module that cannot be copied, run as it is: under a lock, and restored after it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from weakref import WeakKeyDictionary

import torch
from torch import nn

from sklearn_torch_bridge._devices import check_device, is_on
from sklearn_torch_bridge._replica._module_copy import NotCopyableError

__all__ = ["borrowed", "set_eval"]

_LOCKS: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_LOCKS_LOCK = threading.Lock()


@contextmanager
def borrowed(
    module: nn.Module, device: str | torch.device, reason: NotCopyableError
) -> Iterator[torch.device]:
    """Put a module in eval mode inside the block; restore its flags and buffers."""
    devices = {tensor.device for tensor in (*module.parameters(), *module.buffers())}
    own_device = next(iter(devices), torch.device("cpu"))
    on_own_device = torch.empty(0, device=own_device)
    if device != "auto" and not is_on(on_own_device, check_device(device)):
        msg = (
            f"`device` must be the device of `model`, {own_device}, got {str(device)!r}"
            f": this model cannot be copied ({reason}). Move it yourself."
        )
        raise ValueError(msg) from reason
    with _LOCKS_LOCK:
        lock = _LOCKS.setdefault(module, threading.RLock())
    with lock:
        modes = [(part, part.training) for part in module.modules()]
        buffers = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
        try:
            set_eval(module)  # in here, as Ctrl-C may come half-way
            yield own_device
        finally:
            try:
                _restore(modes, buffers)
            except BaseException:  # Ctrl-C came meanwhile
                _restore(modes, buffers)
                raise


def set_eval(module: nn.Module) -> None:
    """Set eval mode, also of modules that know no other: of exported programs."""
    with suppress(NotImplementedError):
        module.eval()


def _restore(
    modes: list[tuple[nn.Module, bool]],
    buffers: list[tuple[torch.Tensor, torch.Tensor]],
) -> None:
    for part, mode in modes:
        if part.training != mode:
            part.training = mode
    with torch.no_grad():
        for buffer, before in buffers:
            if not torch.equal(buffer, before):
                buffer.copy_(before)
