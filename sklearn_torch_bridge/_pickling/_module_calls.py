"""Methods of modules, and partials of these or of modules, to run as forwards."""

import functools
import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any, TypeGuard

from torch import nn

__all__ = ["ModuleCall", "is_module_call", "module_called", "owner_of"]


def owner_of(call: Any) -> nn.Module | None:
    """Return the module that a bound method, or a partial, calls.

    >>> owner_of(functools.partial(nn.ReLU().forward))
    ReLU()
    """
    inner = call
    while isinstance(inner, functools.partial):
        inner = inner.func
    if isinstance(inner, types.MethodType):
        inner = inner.__self__
    return inner if isinstance(inner, nn.Module) else None


def is_module_call(value: Any) -> TypeGuard[Callable[..., Any]]:
    """Check for a method or a partial of a module, but not for a module."""
    return not isinstance(value, nn.Module) and owner_of(value) is not None


class ModuleCall(nn.Module):
    """A module whose forward is a method of another one, and whose layers are its."""

    def __init__(self, call: Callable[..., Any]) -> None:
        super().__init__()
        self.module = owner_of(call)
        self.forward = _again(call)

    def named_modules(
        self, memo: Any = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        """Yield the parts of the module, under its names."""
        assert self.module is not None  # noqa: S101 - checked before one is made
        yield from self.module.named_modules(memo, prefix, remove_duplicate)

    def get_submodule(self, target: str) -> nn.Module:
        """Return a part of the module by its name."""
        assert self.module is not None  # noqa: S101 - checked before one is made
        return self.module.get_submodule(target)


def module_called(module: nn.Module) -> nn.Module:
    """Return the module that has the weights: the one called, or itself."""
    called = module.module if isinstance(module, ModuleCall) else module
    assert called is not None  # noqa: S101 - checked before one is made
    return called


def _again(call: Any) -> Any:
    """Return another object that calls the same, with the signature of a forward."""
    if isinstance(call, functools.partial):
        made = functools.partial(_again(call.func), *call.args, **call.keywords)
        inner: Any = made.func
        if isinstance(inner, nn.Module):  # whose `__call__` takes anything
            known = functools.partial(inner.forward, *call.args, **call.keywords)
            vars(made)["__signature__"] = inspect.signature(known)
        return made
    if isinstance(call, types.MethodType):
        return types.MethodType(call.__func__, call.__self__)
    return call
