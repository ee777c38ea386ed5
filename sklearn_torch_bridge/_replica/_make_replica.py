"""A copy of a module that shares its storage; on a device.

The caller's module is never touched: `eval`, hooks and devices concern a replica,
made for one run and held by nobody else, so that threads do not meet either. What
cannot be copied (scripted and compiled modules) runs as it is, under a lock, and is
put back as it was.
"""

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from sklearn_torch_bridge._devices import check_device, is_on
from sklearn_torch_bridge._pinned_memory import to_device
from sklearn_torch_bridge._replica._module_copy import NotCopyableError, copy_module
from sklearn_torch_bridge._tensor_bytes import contents

__all__ = ["replica"]


@contextmanager
def replica(
    module: nn.Module, device: str | torch.device
) -> Iterator[tuple[nn.Module, torch.device]]:
    """Give a module that computes what `module` does in eval mode, and its device.

    Inside the block it belongs to the caller of this function alone. Random numbers
    drawn inside do not change the state of the generators outside.
    """
    place = check_device(device)
    try:
        own = copy_module(module, partial(_copy_tensor, module, place))
    except NotCopyableError as reason:
        with _lent(module, device, reason) as place, _RANDOM.kept(place):
            yield module, place
    else:
        with _RANDOM.kept(place):
            _set_eval(own)
            if place.type != "cpu":
                _join_weights(own, module, place)
            yield own, place


def _set_eval(module: nn.Module) -> None:
    """Set eval mode, also of modules that know no other: of exported programs."""
    with suppress(NotImplementedError):
        module.eval()


def _join_weights(own: nn.Module, module: nn.Module, device: torch.device) -> None:
    """Put weights of recurrent layers that were moved one by one into one piece.

    cuDNN would do it at each call, and warn.
    """
    if all(is_on(weights, device) for weights in module.parameters()):
        return
    for part in own.modules():
        if isinstance(part, nn.RNNBase):
            part.flatten_parameters()


def _copy_tensor(
    module: nn.Module, device: torch.device, tensor: torch.Tensor
) -> torch.Tensor:
    """Share a parameter's storage, or keep one copy of it on another device."""
    if tensor.is_meta or is_lazy(tensor):
        raise ValueError(_valueless(module, tensor))
    if not isinstance(tensor, nn.Parameter):
        own = tensor.detach()
        return own.clone() if is_on(own, device) else to_device(own, device)
    if is_on(tensor, device):
        return _as_parameter(tensor.detach(), tensor)
    return _as_parameter(_ELSEWHERE.get(tensor, device), tensor)


def _valueless(module: nn.Module, tensor: torch.Tensor) -> str:
    """Say which tensor of `module` holds no values, and what to do."""
    tensors = (*module.named_parameters(), *module.named_buffers())
    name = next((name for name, one in tensors if one is tensor), "a tensor")
    if is_lazy(tensor):
        return (
            f"`model` must know its shapes, but {name!r} is uninitialised: run one "
            "forward pass of the lazy module first."
        )
    return (
        f"`model` must hold values, but {name!r} is on the meta device: load its "
        "weights first."
    )


def _as_parameter(data: torch.Tensor, like: nn.Parameter) -> torch.Tensor:
    """Wrap `data` as a parameter of the kind of `like`, frozen."""
    if type(like) is nn.Parameter or type(data) is not torch.Tensor:
        result: torch.Tensor = nn.Parameter(data, requires_grad=False)
    else:  # a subclass of Parameter, made as Parameter.__new__ makes it
        result = torch.Tensor._make_subclass(type(like), data, False)  # noqa: SLF001 - its signature
    vars(result).update(vars(like))
    return result


class _WeightsElsewhere:
    """Copies of CPU weights on other devices, for as long as the originals live."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._copies: dict[tuple[int, str], tuple[Any, Any, torch.Tensor]] = {}

    def get(self, weights: torch.Tensor, device: torch.device) -> torch.Tensor:
        """Give the copy on `device`, made anew when the weights have changed."""
        data = weights.detach()
        if data.device.type != "cpu" or type(data) is not torch.Tensor:
            return data.to(device)
        key, state = (id(weights), str(device)), contents(data)
        with self._lock:
            _, known, moved = self._copies.get(key, (None, None, data))
            if known != state:
                moved = data.to(device)
                forget = weakref.ref(weights, lambda _: self._copies.pop(key, None))
                self._copies[key] = (forget, state, moved)
            return moved


_ELSEWHERE = _WeightsElsewhere()


@contextmanager
def _lent(
    module: nn.Module, device: str | torch.device, reason: NotCopyableError
) -> Iterator[torch.device]:
    """Run a module as it is, in eval mode, and put its flags and buffers back."""
    devices = {tensor.device for tensor in (*module.parameters(), *module.buffers())}
    place = next(iter(devices), torch.device("cpu"))
    if device != "auto" and not is_on(
        torch.empty(0, device=place), check_device(device)
    ):
        msg = (
            f"`device` must be the device of `model`, {place}, got {str(device)!r}: "
            f"this model cannot be copied ({reason}). Move it yourself."
        )
        raise ValueError(msg) from reason
    with _LOCKS.of(module):
        modes = [(part, part.training) for part in module.modules()]
        buffers = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
        try:
            _set_eval(module)  # in here, as Ctrl-C may come half-way
            yield place
        finally:
            try:
                _restore(modes, buffers)
            except BaseException:  # Ctrl-C came meanwhile
                _restore(modes, buffers)
                raise


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


class _Locks:
    """One lock a module, for as long as the module lives."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()

    def of(self, module: nn.Module) -> threading.RLock:
        with self._lock:
            return self._locks.setdefault(module, threading.RLock())


_LOCKS = _Locks()


class _RandomState:
    """The state of the global generators, put back when the last run has ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[torch.device, int] = {}
        self._before: dict[torch.device, torch.Tensor] = {}

    @contextmanager
    def kept(self, device: torch.device) -> Iterator[None]:
        """Keep the generators of the CPU and of `device`, also across threads."""
        entered: list[torch.device] = []
        try:
            with self._lock:
                for one in {torch.device("cpu"), device}:
                    if not self._runs.get(one):
                        before = _generators(one).get_rng_state(*_args(one))
                        self._before[one] = before
                    self._runs[one] = self._runs.get(one, 0) + 1
                    entered.append(one)
            yield
        finally:
            try:
                self._leave(entered)
            except BaseException:  # Ctrl-C came meanwhile
                self._leave(entered)
                raise

    def _leave(self, entered: list[torch.device]) -> None:
        with self._lock:
            while entered:
                one = entered[-1]
                if self._runs[one] == 1:
                    _put_back(one, self._before[one])
                self._runs[one] -= 1
                entered.pop()


_RANDOM = _RandomState()


def _generators(device: torch.device) -> Any:
    return torch if device.type == "cpu" else torch.get_device_module(device)


def _args(device: torch.device) -> tuple[torch.device, ...]:
    return () if device.type == "cpu" else (device,)


def _put_back(device: torch.device, before: torch.Tensor) -> None:
    generators = _generators(device)
    if not torch.equal(generators.get_rng_state(*_args(device)), before):
        generators.set_rng_state(before, *_args(device))
