"""Copy a tree of modules without copying its weights.

`copy.deepcopy` takes 18 ms for the 120 modules of a small BERT, fails on what cannot be
pickled, and copies all that hangs on a module (a tokenizer, a trainer with its data).
Here every module gets its own flags, hooks, containers and small state objects; what is
large or foreign is shared.
"""

import copy
import functools
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn

from sklearn_torch_bridge._replica._copy_trace import CopyTrace, Kind, kind_of
from sklearn_torch_bridge._torch_private import compiled_from, copy_script

__all__ = ["NotCopyableError", "copy_module", "is_state"]

CopyTensor = Callable[[torch.Tensor], torch.Tensor]

_MOST_PARTS = 1_000  # of one attribute; a model's configuration has about 100
_MOST_BYTES = 1 << 20  # of one NumPy array
_REGISTRIES = frozenset({"_parameters", "_buffers", "_modules"})
_OF_EVERY_MODULE = frozenset(vars(nn.Module())) - _REGISTRIES
_ATOMS = frozenset({bool, int, float, str, type(None), torch.dtype, torch.device})
_DICTS = (dict, OrderedDict, defaultdict, Counter)
_CONTAINERS = (*_DICTS, list, deque)
_FROZEN = (tuple, set, frozenset)
_GRAPH = torch.fx.GraphModule
_COPY_METHODS = (
    *("__new__", "__copy__", "__deepcopy__", "__reduce__", "__reduce_ex__"),
    *("__getstate__", "__setstate__", "__getnewargs__", "__getnewargs_ex__"),
)
_ONLY_DICT: WeakKeyDictionary[type, bool] = WeakKeyDictionary()


class NotCopyableError(Exception):
    """A module refers to itself in a way that a copy could not follow."""


class _TooLargeError(Exception):
    """A value has more parts than are worth copying for each call."""


def _clone(value: Any) -> Any:
    is_tensor = isinstance(value, torch.Tensor)
    return value.detach().clone() if is_tensor else value.clone_state()


def copy_module(
    module: nn.Module,
    copy_tensor: CopyTensor,
    copy_value: Callable[[Any], Any] = _clone,
    *,
    trace: CopyTrace | None = None,
) -> nn.Module:
    """Copy the tree of `module`; `copy_tensor` copies its parameters and buffers.

    `copy_value` copies other tensors, and generators. Each is copied once, so that tied
    weights stay tied; about 20 microseconds a module. `NotCopyableError` is raised for
    compiled modules, and for those with a function or a hook that closes over a part.
    `trace` gets what the copy was made of.
    """
    copier = _Copier(copy_tensor, copy_value, trace or CopyTrace())
    copier.add_tree(module)
    copier.check_functions()
    replica: nn.Module = copier.memo[id(module)]
    return replica


class _Copier:
    """One copy in progress; `memo` has what was copied, by id of the original."""

    def __init__(
        self,
        copy_tensor: CopyTensor,
        copy_value: Callable[[Any], Any],
        trace: CopyTrace,
    ) -> None:
        self.memo: dict[int, Any] = {}
        self._copy_tensor = copy_tensor
        self._copy_value = copy_value
        self._trace = trace
        self._sign = trace.signature.append
        self._functions: list[types.FunctionType] = []
        self._parts_left = _MOST_PARTS

    def add_tree(self, module: nn.Module) -> None:
        """Copy a module and all below it that is not copied yet."""
        parts = [part for part in _children_first(module) if id(part) not in self.memo]
        for script in [one for one in parts if isinstance(one, torch.jit.ScriptModule)]:
            self.memo[id(script)] = copy_script(script, self._copy_once)
            self._trace.is_whole = False
            parts.remove(script)
        for part in parts:
            if compiled_from(part) is not None:
                msg = "a compiled module calls the module that it was made from"
                raise NotCopyableError(msg)
            if _is_copied_by_dict(type(part)):  # now, for parts that point at it
                self.memo[id(part)] = object.__new__(type(part))
        for part in parts:
            self._sign((id(type(part)), id(type(part).forward)))
            self._add_tensors(part)
        for part in parts:
            if _is_copied_by_dict(type(part)):
                self._fill(part)
            else:  # it knows best how to copy itself; its tensors and parts are known
                self._remember_tensors(vars(part).copy().values())
                copy.deepcopy(part, self.memo)
                self._trace.add_unknown(self.memo[id(part)])

    def check_functions(self) -> None:
        """Refuse functions that would go on working on the original."""
        for function in self._functions:
            for cell in function.__closure__ or ():
                try:
                    content = cell.cell_contents
                except ValueError:  # an empty cell
                    continue
                if self.memo.get(id(content), content) is not content:
                    msg = f"{function.__qualname__} closes over a part of the module"
                    raise NotCopyableError(msg)

    def _add_tensors(self, part: nn.Module) -> None:
        for name in ("_parameters", "_buffers"):
            for tensor in vars(part)[name].copy().values():
                if tensor is not None:
                    self._copy_once(tensor)

    def _copy_once(self, tensor: torch.Tensor) -> Any:
        key = id(tensor)
        self._sign(key)
        if key not in self.memo:
            own = self.memo[key] = self._copy_tensor(tensor)
            # Only a parameter has the attributes of the other.
            is_parameter = isinstance(own, nn.Parameter)
            self._trace.add_tensor(tensor if is_parameter else None, own)
        return self.memo[key]

    def _remember_tensors(self, values: Iterable[Any]) -> None:
        """Copy tensors among the attributes: deepcopy refuses those with a graph."""
        for value in values:
            if isinstance(value, torch.Tensor):
                self._copy(value)
            elif type(value) in (list, tuple):
                self._remember_tensors(tuple(value))
            elif type(value) in _DICTS:
                self._remember_tensors(value.copy().values())

    def _fill(self, part: nn.Module) -> None:
        """Fill the ``__dict__`` of the copy of a module."""
        trace, own = self._trace, self.memo[id(part)]
        state, items = vars(own), vars(part).copy()
        for name, value in items.items():
            if name in _REGISTRIES:
                entries = value.copy()
                state[name] = type(value)(
                    (key, None if item is None else self.memo[id(item)])
                    for key, item in entries.items()
                )
                trace.add(Kind.NAMED, value, state[name], entries)
            elif name not in _OF_EVERY_MODULE:
                if type(value) in _ATOMS:
                    self._sign(value)
                    state[name] = value
                else:
                    state[name] = self._copy_attribute(value)
            elif isinstance(value, dict):  # hooks of the caller
                state[name] = self._copy_hooks(name, value) if value else type(value)()
                trace.add_hooks(value, state[name])
            elif isinstance(value, set):
                entries = state[name] = set(value)
                trace.add(Kind.SEQUENCE, value, entries, entries.copy())
            elif name != "_compiled_call_impl":  # nn.Module's pickling drops it too
                state[name] = value
        trace.add(Kind.MODULE, part, state, items)

    def _copy_hooks(self, name: str, hooks: dict[int, Any]) -> dict[int, Any]:
        entries = hooks.copy()
        own = entries.copy()
        if "forward" in name:  # others, of state dicts and backward passes, never run
            for key, hook in entries.items():
                own[key] = self._copy_callable(hook)
        self._trace.add(Kind.HOOKS, hooks, own, entries)
        return own

    def _copy_attribute(self, value: Any) -> Any:
        """Copy a value unless it has too many parts: then share it."""
        before, n_reads = len(self.memo), self._trace.n_reads
        self._parts_left = _MOST_PARTS
        try:
            return self._copy(value)
        except _TooLargeError:
            for key in list(self.memo)[before:]:
                del self.memo[key]
            self.memo[id(value)] = value
            self._trace.forget(n_reads)
            return value

    def _copy(self, value: Any) -> Any:
        """Copy tensors, modules, containers and state objects; share the rest."""
        if type(value) in _ATOMS:
            self._sign(value)
            return value
        if id(value) in self.memo:
            return self.memo[id(value)]
        if isinstance(value, (torch.Tensor, torch.Generator)):
            self._sign(id(value))
            own = self.memo[id(value)] = self._copy_value(value)
            self._trace.add_tensor(None, own)
        elif isinstance(value, nn.Module):  # in a list, say, so not registered
            self.add_tree(value)
        elif isinstance(value, np.ndarray) and value.nbytes <= _MOST_BYTES:
            self.memo[id(value)] = value.copy()
            self._trace.arrays.append(self.memo[id(value)])
        elif type(value) in _CONTAINERS:
            self._copy_filled(value)
        elif type(value) in _FROZEN:
            self._count(len(value))
            entries = tuple(value)
            own = self.memo[id(value)] = type(value)(map(self._copy, entries))
            self._trace.add(Kind.SEQUENCE, value, own, entries)
        elif callable(value):
            return self._copy_callable(value)
        elif is_state(value):
            self._copy_filled(value)
        else:
            return value
        return self.memo[id(value)]

    def _copy_callable(self, value: Any) -> Any:
        """Bind methods and partials to the copies; look at closures at the end."""
        self._sign(id(getattr(value, "__func__", value)))  # which may hold the module
        bound = (types.MethodType, functools.partial)
        if isinstance(value, bound) or getattr(value, "__closure__", None):
            self._trace.is_whole = False
        if isinstance(value, types.MethodType):
            owner = self.memo.get(id(value.__self__), value.__self__)
            return types.MethodType(value.__func__, owner)
        if isinstance(value, functools.partial):
            return functools.partial(
                self._copy(value.func),
                *map(self._copy, value.args),
                **{key: self._copy(item) for key, item in value.keywords.items()},
            )
        if isinstance(value, types.FunctionType):
            self._functions.append(value)
        return value

    def _copy_filled(self, value: Any) -> None:
        """Copy a container, or an object with its ``__dict__``, and what it holds."""
        self._count(len(value if type(value) in _CONTAINERS else vars(value)))
        own = copy.copy(value)
        self.memo[id(value)] = own  # before its items, which may point back
        is_object = type(own) not in _CONTAINERS
        items = vars(own) if is_object else own
        self._trace.add(kind_of(value), value, items, items.copy())
        for key in list(items) if isinstance(items, dict) else range(len(items)):
            items[key] = self._copy(items[key])

    def _count(self, parts: int) -> None:
        self._parts_left -= parts
        if self._parts_left < 0:
            raise _TooLargeError


def _children_first(module: nn.Module) -> list[nn.Module]:
    """Order the tree of a module so that no part comes before what it consists of."""
    ordered: dict[int, nn.Module] = {}

    def visit(part: nn.Module) -> None:
        if id(part) not in ordered:
            if not isinstance(part, torch.jit.ScriptModule):  # it is copied as a whole
                for child in part.children():
                    visit(child)
            ordered[id(part)] = part

    visit(module)
    return list(ordered.values())


def is_state(value: Any) -> bool:
    """Check whether an object only holds state, which a forward may write to."""
    return type(value) is types.SimpleNamespace or (
        hasattr(value, "__dict__") and _is_only_dict(type(value), object)
    )


def _is_copied_by_dict(cls: type) -> bool:
    """Check whether modules of a class are copied by copying their ``__dict__``."""
    # Graphs are, each of a class of its own: `copy.deepcopy` would compile them anew.
    return _is_only_dict(cls, _GRAPH if issubclass(cls, _GRAPH) else nn.Module)


def _is_as_in(cls: type, base: type, name: str) -> bool:
    """Check whether a method is that of `base`, or one of torch's to that effect."""
    own = getattr(cls, name, None)
    # Convolutions and the like set for old checkpoints what a living module has.
    home = getattr(own, "__module__", None) or ""
    is_of_torch = name == "__setstate__" and home.startswith("torch.nn.modules.")
    return is_of_torch or own == getattr(base, name, None)


def _is_only_dict(cls: type, base: type) -> bool:
    """Check whether instances are their ``__dict__``, made and copied as `base` is."""
    known = _ONLY_DICT.get(cls)
    if known is None:
        # A graph has a `__new__` of its own.
        methods = _COPY_METHODS[1:] if base is _GRAPH else _COPY_METHODS
        known = _ONLY_DICT[cls] = (
            all(_is_as_in(cls, base, name) for name in methods)
            and not hasattr(cls, "__del__")
            and not any(vars(parent).get("__slots__") for parent in cls.__mro__)
        )
    return known
