"""Decide which names a function writes to outside itself are its working state.

What a function itself writes to, and nobody reads, is working state, whose value does
not count: else a forward that appends to a global list had another fingerprint after
each run. What is written and read again carries something from row to row, so that no
key of a row can stand for what becomes of it.
"""

import enum
import types
from collections import deque
from collections.abc import Callable, Iterable
from functools import lru_cache
from types import CodeType
from typing import Any

import numpy as np
import torch

from sklearn_torch_bridge._digest._flow import flow_of
from sklearn_torch_bridge._digest._library_or_user_code import is_user_code, library_of
from sklearn_torch_bridge._digest._reads_and_writes import Flow, Path
from sklearn_torch_bridge._digest._working_state import MAKERS

__all__ = [
    "Use",
    "attributes_written",
    "carried_attributes",
    "changed_names",
    "class_attributes_written",
    "use_of",
    "written_attributes",
]

_CONTAINERS = (list, dict, set, deque, bytearray, np.ndarray, torch.Tensor)
_CODE = (
    *(types.ModuleType, types.FunctionType, types.MethodType, type),
    *(types.BuiltinFunctionType, types.NoneType),
)


class Use(enum.IntEnum):
    """What a function does with a name outside it."""

    READ = enum.auto()
    WORKING = enum.auto()
    CARRIED = enum.auto()


def use_of(flow: Flow, path: Path, value: Any) -> Use:
    """Return what is done with the value of a path of names outside a function."""
    if path in flow.rebound:
        return Use.CARRIED if flow.is_read(path) else Use.WORKING
    if path not in flow.changed or isinstance(value, _CODE):
        return Use.READ
    is_container = isinstance(value, _CONTAINERS)
    if not flow.is_read(path) and (is_container or path not in flow.answered):
        return Use.WORKING
    return Use.CARRIED if is_container else Use.READ


@lru_cache(maxsize=4096)
def changed_names(code: CodeType) -> frozenset[Path]:
    """Return the globals and closure variables that a function writes to.

    >>> calls, names = [], {}
    >>> def f(x):
    ...     calls.append(x)
    ...     names[x] = len(calls)
    ...     return x
    >>> sorted(changed_names(f.__code__))
    [('calls',), ('names',)]
    """
    flow, own = flow_of(code), {*code.co_varnames, *code.co_cellvars, ""}
    found = flow.rebound | flow.changed
    return frozenset(path for path in found if path[0] not in own)


def written_attributes(
    code: CodeType, look_up: Callable[[str], Any]
) -> list[tuple[Any, str, Use]]:
    """List the attributes of objects outside that a function writes to, with the use.

    `look_up` returns what a global or closure variable refers to.
    """
    flow, found = flow_of(code), list[tuple[Any, str, Use]]()
    for path in sorted(path for path in changed_names(code) if len(path) > 1):
        owner = look_up(path[0])
        for name in path[1:-1]:
            owner = getattr(owner, name, None)
        use = use_of(flow, path, getattr(owner, path[-1], None))
        if owner is not None and use is not Use.READ:
            found.append((owner, path[-1], use))
    return found


def attributes_written(cls: type) -> frozenset[str]:
    """Return the attributes that the user's methods of a class write to, once made."""
    codes = [one.__code__ for name, one in _methods(cls).items() if name not in MAKERS]
    return frozenset(
        path[1]
        for code in codes
        for path in flow_of(code).rebound | flow_of(code).changed
        if path[:1] == code.co_varnames[:1] and path[1:]
    )


def class_attributes_written(cls: type) -> dict[str, Use]:
    """Return the attributes of its class that a method writes to, with the use."""
    found: dict[str, Use] = {}
    for name, method in _methods(cls).items():
        code = method.__code__
        flow, is_of_class = flow_of(code), isinstance(vars(cls).get(name), classmethod)
        head = code.co_varnames[:1] + ("__class__",) * (not is_of_class)
        for path in flow.rebound | flow.changed:
            if path[:-1] == head:
                use = use_of(flow, path, getattr(cls, path[-1], None))
                found[path[-1]] = max(use, found.get(path[-1], use))
    return found


def carried_attributes(owner: Any, method: str) -> list[str]:
    """Return the attributes that a method, and those it calls, both read and write."""
    methods, reached, left = _methods(type(owner)), set(), [method]
    total = Flow()
    while left:
        name = left.pop()
        if name in reached or name not in methods:
            continue
        reached.add(name)
        code = methods[name].__code__
        flow, first = flow_of(code), code.co_varnames[:1]
        total.include(_of_self(flow, first), frozenset())
        left += [path[1] for path in flow.loaded if path[:1] == first and path[1:]]
    total.finish()
    held = {name: getattr(owner, name, None) for name in _names(total)}
    uses = {name: use_of(total, ("self", name), held[name]) for name in held}
    return sorted(name for name, use in uses.items() if use is Use.CARRIED)


def _names(flow: Flow) -> Iterable[str]:
    return {path[1] for path in flow.rebound | flow.changed if len(path) > 1}


def _of_self(flow: Flow, first: Path) -> Flow:
    """Return what a method does with its own object, which is called `self`."""

    def renamed(path: Path) -> Path:
        # The whole object is given away: which attributes are read there shows there.
        is_part = path[:1] == first and len(path) > 1
        return ("self", *path[1:]) if is_part else ("", *path)

    found = Flow()
    for name in ("rebound", "changed", "read", "answered", "loaded"):
        setattr(found, name, set(map(renamed, getattr(flow, name))))
    found.moved = {(renamed(one), renamed(other)) for one, other in flow.moved}
    return found


def _methods(cls: type) -> dict[str, types.FunctionType]:
    """Return the functions of a class that the user has written, by their names."""
    found: dict[str, types.FunctionType] = {}
    for base in reversed(cls.__mro__):
        if library_of(base.__module__) is None:
            for name, part in vars(base).copy().items():
                inner = part.fget if isinstance(part, property) else part
                if isinstance(inner, types.FunctionType) and is_user_code(inner):
                    found[name] = inner
    return found
