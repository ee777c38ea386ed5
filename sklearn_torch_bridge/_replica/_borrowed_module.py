"""A module that cannot be copied, run as it is: under a lock, and restored after it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from sklearn_torch_bridge._devices import check_device, is_on
from sklearn_torch_bridge._replica._copy_trace import dicts_of
from sklearn_torch_bridge._replica._findings import Findings
from sklearn_torch_bridge._replica._held_state import HeldState, containers_in
from sklearn_torch_bridge._replica._module_copy import NotCopyableError
from sklearn_torch_bridge._torch_private import is_of_compiler, version_of

__all__ = ["borrowed", "set_eval"]

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_SMALL_BYTES = 1 << 16

_LOCKS: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_LOCKS_LOCK = threading.Lock()


@contextmanager
def borrowed(
    module: nn.Module,
    device: str | torch.device,
    reason: NotCopyableError,
    findings: Findings,
) -> Iterator[tuple[torch.device, HeldState]]:
    """Put a module in eval mode inside the block; restore all that it was.

    What it holds is yielded as well, to be put back after each forward.
    """
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
        tensors = _Tensors(module, findings)
        attributes = _attributes(module)
        try:
            set_eval(module)  # in here, as Ctrl-C may come half-way
            yield own_device, _state_of(module)
        finally:
            try:
                _restore(attributes, tensors, modes)
            except BaseException:  # Ctrl-C came meanwhile
                _restore(attributes, tensors, modes)
                raise
        tensors.check_others()


def set_eval(module: nn.Module) -> None:
    """Set eval mode, also of modules that know no other: of exported programs."""
    with suppress(NotImplementedError):
        module.eval()


class _Tensors:
    """The values of parameters and buffers before a run: all, if it is the first.

    Later they are those of small buffers, and of what forwards were seen to write to.
    """

    def __init__(self, module: nn.Module, findings: Findings) -> None:
        named = (*module.named_parameters(), *module.named_buffers())
        self._findings = findings
        findings.hold_for([id(tensor) for _, tensor in named])
        is_first = not findings.seen
        self._kept: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        self._others: list[tuple[str, torch.Tensor, int]] = []
        for name, tensor in named:
            is_small = tensor.layout is torch.strided and tensor.nbytes <= _SMALL_BYTES
            is_safe = tensor.is_inference() or id(tensor) in findings.written
            if is_first or is_safe or (is_small and type(tensor) is torch.Tensor):
                data = tensor.detach()
                self._kept.append((tensor, data, data.clone()))
            else:
                self._others.append((name, tensor, version_of(tensor)))

    def restore(self) -> None:
        """Put back what was changed, and remember what it was."""
        with torch.no_grad():
            for tensor, data, before in self._kept:
                has_moved = tensor.data_ptr() != data.data_ptr()
                if has_moved:  # it was given other memory
                    tensor.data = data
                has_changed = not torch.equal(data, before)
                if has_changed:
                    data.copy_(before)
                if has_moved or has_changed:
                    self._findings.written[id(tensor)] = (0, 0)

    def check_others(self) -> None:
        """Raise if a tensor was written to that no run before has written to."""
        changed = [
            (name, tensor)
            for name, tensor, version in self._others
            if version_of(tensor) != version
        ]
        if changed:
            for _, tensor in changed:
                self._findings.written[id(tensor)] = (0, 0)
            names = ", ".join(repr(name) for name, _ in changed)
            msg = (
                "`model` must not write to its weights for some rows only, but its "
                f"forward has written to {names}, after one that did not. These values "
                "of your module have changed: restore them, and call again. From now "
                "on they are put back."
            )
            raise ValueError(msg)


def _attributes(module: nn.Module) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """List the attributes of all parts, each dict with a copy of what it holds."""
    return [(one, dict(one)) for part in _parts(module) for one in dicts_of(part)]


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    for part in module.modules():
        is_script = isinstance(part, torch.jit.ScriptModule)
        if not is_script and not any(map(is_of_compiler, type(part).mro())):
            yield part


def _state_of(module: nn.Module) -> HeldState:
    """Return what the parts hold now, and the containers among their attributes."""
    dicts: list[dict[Any, Any]] = []
    lists: list[Any] = []
    for part in _parts(module):
        dicts += dicts_of(part)
        for name, value in vars(part).items():
            if name not in _OF_EVERY_MODULE:
                for one in containers_in(value):
                    (dicts if isinstance(one, dict) else lists).append(one)
    return HeldState(dicts, lists)


def _restore(
    attributes: list[tuple[dict[str, Any], dict[str, Any]]],
    tensors: _Tensors,
    modes: list[tuple[nn.Module, bool]],
) -> None:
    for now, before in attributes:
        names = before.keys()
        if now.keys() != names or any(now[name] is not before[name] for name in names):
            now.clear()
            now.update(before)
    tensors.restore()
    for part, mode in modes:
        if part.training != mode:
            part.training = mode
