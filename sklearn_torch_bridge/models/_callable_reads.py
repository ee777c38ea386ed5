"""What a callable that makes a module reads: once that is other, it is called again."""

import functools
import types
from collections.abc import Iterator
from inspect import getattr_static
from typing import Any
from weakref import ref

from torch import nn

__all__ = ["CallableReads"]

_ATOMS = (bool, int, float, complex, str, bytes, types.NoneType)
_CODE = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)
_MOST_ITEMS = 100  # of a container that are looked at


class CallableReads:
    """The values that the code of a callable finds now, by name and one step further.

    >>> net = nn.ReLU()
    >>> build = lambda: net
    >>> reads = CallableReads(build)
    >>> before, net = reads.are_current(build), nn.GELU()
    >>> before, reads.are_current(build)
    (True, False)
    """

    def __init__(self, model: Any) -> None:
        self._seen = [_remember(value) for value in _reads(model)]

    def are_current(self, model: Any) -> bool:
        """Return whether the callable finds the same values."""
        now = list(_reads(model))
        return len(now) == len(self._seen) and all(map(_is_remembered, self._seen, now))


def _remember(value: Any) -> Any:
    """Return what tells a value apart, without keeping large ones alive."""
    if isinstance(value, _ATOMS):
        return value
    try:
        return ref(value)
    except TypeError:
        return id(value)


def _is_remembered(seen: Any, value: Any) -> bool:
    if isinstance(value, _ATOMS):
        return type(seen) is type(value) and bool(seen == value or seen is value)
    return seen() is value if isinstance(seen, ref) else seen == id(value)


def _reads(model: Any) -> Iterator[Any]:
    if isinstance(model, functools.partial):
        values = [*model.args, *model.keywords.values()]
        yield from _reads(model.func)
    elif isinstance(model, types.MethodType):
        values = [model.__self__]
        yield from _of_function(model.__func__, set())
    elif isinstance(model, types.FunctionType):
        values = []
        yield from _of_function(model, set())
    else:
        values = [model]
        yield from _of_function(getattr_static(type(model), "__call__"), set())
    for value in values:
        yield from _and_inside(value)


def _of_function(function: Any, done: set[int]) -> Iterator[Any]:
    """Yield what a function finds: closed over, as defaults, and as globals."""
    if not isinstance(function, types.FunctionType) or id(function) in done:
        return
    done.add(id(function))
    found = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # an empty cell
            continue
    names = _names(function.__code__)
    everywhere = function.__globals__
    found += [everywhere[name] for name in sorted(names) if name in everywhere]
    for value in found:
        yield from _and_inside(value)
        if getattr(value, "__globals__", None) is everywhere:
            yield from _of_function(value, done)


def _names(code: types.CodeType) -> set[str]:
    """Return all names in a function's code and in that of functions inside it."""
    inner = (part for part in code.co_consts if isinstance(part, types.CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _and_inside(value: Any) -> Iterator[Any]:
    """Yield a value and, of a container or an object, what it holds."""
    yield value
    if isinstance(value, (dict, list, tuple)):
        if len(value) <= _MOST_ITEMS:
            yield from value.values() if isinstance(value, dict) else value
    elif hasattr(value, "__dict__") and not isinstance(value, (*_CODE, nn.Module)):
        yield from vars(value).copy().values()
