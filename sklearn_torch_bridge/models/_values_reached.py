"""The values that the code of a callable reaches, as a list that tells others apart."""

import enum
import inspect
import sys
import types
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import cache, cached_property, partial
from itertools import count
from pathlib import PurePath
from typing import Any
from weakref import ReferenceType, ref

import numpy as np
import torch
from torch import nn

from sklearn_torch_bridge._digest import (
    attributes_of,
    behaviour_of,
    digest,
    found_by_function,
    is_without_effect,
    library_of,
    names_in,
    texts_in,
)
from sklearn_torch_bridge._tokenizers import is_tokenizer
from sklearn_torch_bridge._torch_private import version_of

__all__ = ["ValuesReached"]

_MOST_VALUES = 2_000  # the nearest; a look takes under a microsecond for each
_MOST_ITEMS = 1_000  # of a container that are looked at
_SMALL = 1 << 16  # bytes of an array whose values are compared
_ATOMS = frozenset({bool, int, complex, str, bytes, types.NoneType, types.CodeType})
_CONTAINERS = (dict, list, tuple, set, frozenset, deque, types.MappingProxyType)
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement
_MAKERS = frozenset({"__init__", "__new__", "__post_init__", "__call__"})

_NUMBERS = count()
_SERIALS: dict[int, tuple["ref[Any]", int]] = {}


def _of_cell(cell: types.CellType) -> list[Any]:
    try:
        return [cell.cell_contents]
    except ValueError:  # it is empty
        return []


def _of_builtin(function: Any) -> list[Any]:
    """Return the object whose method a compiled function is, if it is one."""
    owner = function.__self__
    is_method = owner is not None and not isinstance(owner, types.ModuleType)
    return [function.__name__, owner] if is_method else [_serial(function)]


_DESCRIPTORS: dict[type, Callable[[Any], list[Any]]] = {
    staticmethod: lambda one: [one.__func__],
    classmethod: lambda one: [one.__func__],
    property: lambda one: [one.fget],
    cached_property: lambda one: [one.func],
}
# Of what only wraps others: these.
_PARTS: dict[type, Callable[[Any], list[Any]]] = {
    **_DESCRIPTORS,
    partial: lambda one: [one.func, *one.args, dict(one.keywords)],
    types.MethodType: lambda one: [one.__func__, one.__self__],
    types.BuiltinFunctionType: _of_builtin,
    types.MethodWrapperType: _of_builtin,
    types.CellType: _of_cell,
    type(cache(len)): lambda one: [one.__wrapped__],
    ReferenceType: lambda one: [one()],
    ContextVar: lambda one: [one.get(None)],
}


def _is_public(function: Any) -> bool:
    """Return whether a library's function is found by its name in its module."""
    home, name = function.__module__, function.__name__
    is_of_library = library_of(home) is not None
    return is_of_library and getattr(sys.modules.get(home), name, None) is function


class ValuesReached:
    """The values that a callable reaches, each once, the nearest first.

    Plain ones by their content, small arrays too, modules and what libraries have by
    their identity. `seen` has neither values that are large nor any that would keep
    the callable alive; `texts` all that may name files.
    """

    def __init__(self, model: Any) -> None:
        self.seen: list[Any] = []
        self.texts: list[str] = []
        self._left = deque([model])
        self._numbers: dict[int, int] = {}
        self._alive: list[Any] = []  # else another value may get the same `id`
        self._names: set[str] = set(_MAKERS)
        self._aside: list[tuple[str, Any]] = []  # of classes, not mentioned so far
        while self._left or self._take_mentioned():
            if len(self._alive) > _MOST_VALUES:
                break
            self._look_at(self._left.popleft())

    def _look_at(self, value: Any) -> None:
        cls, seen = type(value), self.seen
        if cls in _ATOMS:
            seen += (cls, value)
            if cls is str:
                self.texts.append(value)
        elif cls is float:
            seen += (cls, value.hex())
        elif id(value) in self._numbers:
            seen.append(self._numbers[id(value)])
        else:
            self._numbers[id(value)] = len(self._numbers)
            self._alive.append(value)
            self._look_into(value, cls)

    def _look_into(self, value: Any, cls: type) -> None:
        if cls is dict or cls is list or cls is tuple:  # the commonest first
            self._add_items(value)
        elif cls is types.FunctionType:
            self._add_function(value)
        elif isinstance(value, type):
            self._add_class(value)
        elif isinstance(value, types.ModuleType):
            self._add_module(value)
        elif isinstance(value, PurePath):
            self._look_at(str(value))
        elif isinstance(value, (torch.Tensor, np.ndarray, np.generic)):
            self.seen.append(_of_array(value))
        elif isinstance(value, (nn.Module, enum.Enum, torch.Generator)):
            self.seen.append(_serial(value))
        else:
            self._add_object(value, cls)

    def _add_function(self, function: types.FunctionType) -> None:
        home = library_of(function.__globals__.get("__name__"))
        if home is not None:
            # torch wraps some of its functions once its compiler is imported.
            own = inspect.unwrap(function)
            if not function.__closure__ or _is_public(own):
                self.seen.append(_serial(own))
                return
        code = function.__code__
        self.seen.append(code)
        if home is not None:  # made inside a library, around something of the user's
            self._left.extend(function.__closure__ or ())
            return
        self._names |= names_in(code)
        self.texts += texts_in(code)
        self._left.extend(found_by_function(function))

    def _add_class(self, cls: type) -> None:
        self.seen.append(_serial(cls))
        if library_of(cls.__module__) is None:
            self._left.extend(cls.__bases__)
            self._add_body(cls)

    def _add_module(self, module: types.ModuleType) -> None:
        self.seen.append(_serial(module))
        if library_of(module.__name__) is None:
            held = vars(module).copy()
            self._add_named({name: held[name] for name in held if name[:2] != "__"})

    def _add_named(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            self.seen.append(name)
            self._left.append(value)

    def _add_body(self, cls: type) -> None:
        """Look at attributes of a class; at some once something mentions their name.

        So at methods, and at all of a module's class, which counts in its forward.
        """
        only_mentioned = issubclass(cls, nn.Module)
        body = behaviour_of(cls)
        for name, value in body.items():
            if only_mentioned or _is_method(value):
                self._aside.append((name, value))
            else:
                self._add_named({name: value})

    def _take_mentioned(self) -> bool:
        """Look at what was put aside and is mentioned now; return whether there is."""
        aside, self._aside = self._aside, []
        for name, value in aside:
            if name in self._names or "getattr" in self._names:
                self._add_named({name: value})
            else:
                self._aside.append((name, value))
        return bool(self._left)

    def _add_object(self, value: Any, cls: type) -> None:
        parts_of = _PARTS.get(partial if isinstance(value, partial) else cls)
        if parts_of is not None:
            self._left.extend(parts_of(value))
            return
        is_container = isinstance(value, _CONTAINERS)
        if is_container:
            self._add_items(value)
        elif _is_whole(value, cls):
            self.seen.append(_serial(value))
            return
        if cls.__flags__ & _HEAP_TYPE or not is_container:
            self._left.append(cls)
            attributes = attributes_of(value)
            self._add_named(attributes)
            if not is_container and not attributes:
                self.seen.append(_serial(value))

    def _add_items(self, value: Any) -> None:
        self.seen += (type(value), len(value))
        if len(value) > _MOST_ITEMS:
            self.seen.append(id(value))
        elif isinstance(value, (dict, types.MappingProxyType)):
            for pair in list(value.items()):
                self._left.extend(pair)
        else:
            self._left.extend(list(value))


def _is_whole(value: Any, cls: type) -> bool:
    """Return whether an object is not looked into: one in C, a lock, a tokenizer."""
    is_in_c = not cls.__flags__ & _HEAP_TYPE and cls is not types.SimpleNamespace
    return is_in_c or is_without_effect(value) or is_tokenizer(value)


def _is_method(value: Any) -> bool:
    return isinstance(value, (types.FunctionType, *_DESCRIPTORS))


def _of_array(value: Any) -> Any:
    """Return what tells a small array apart by its values, a large one by itself."""
    is_near = not isinstance(value, torch.Tensor) or value.device.type == "cpu"
    if is_near and value.nbytes <= _SMALL:
        return digest(value, lenient=True)
    if isinstance(value, torch.Tensor) and not value.is_inference():
        return _serial(value), version_of(value)
    return _serial(value)


def _serial(value: Any) -> int:
    """Return a number of an object, which no other has, also after its end."""
    place = id(value)
    known = _SERIALS.get(place)
    if known is not None and known[0]() is value:
        return known[1]
    try:
        alive = ref(value, partial(_forget, place))
    except TypeError:
        return -place
    _SERIALS[place] = alive, next(_NUMBERS)
    return _SERIALS[place][1]


def _forget(place: int, dead: "ref[Any]") -> None:
    known = _SERIALS.get(place)
    if known is not None and known[0] is dead:
        del _SERIALS[place]
