"""Replicas kept from one call to the next, by thread, while their module lives.

Between calls a replica holds nothing of the caller's: neither weights, which may be
freed or moved meanwhile, nor objects, which may hold the module. Both are lent anew.
"""

import functools
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import repeat
from operator import is_
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from sklearn_torch_bridge._replica._copy_trace import CopyTrace, Read
from sklearn_torch_bridge._replica._held_state import HeldState
from sklearn_torch_bridge._replica._lent_tensors import LentTensors
from sklearn_torch_bridge._replica._module_look import ModuleLook, is_atom, pick

__all__ = ["KeptReplica", "NotKeptError", "keep", "take"]

_LRU_CACHE = type(functools.cache(str))
_REMEMBERS: WeakKeyDictionary[type, bool] = WeakKeyDictionary()


class NotKeptError(Exception):
    """Something that a replica was made of cannot be told, or not be lent anew."""


class KeptReplica:
    """A replica, and what tells whether its module is still what it was made of."""

    def __init__(
        self, own: nn.Module, lent: LentTensors, state: HeldState, trace: CopyTrace
    ) -> None:
        self.own, self.lent, self.state = own, lent, state
        self.signature = trace.signature
        # An array is copied, and what is written to it tells nothing of itself.
        is_told = trace.is_whole and not trace.arrays and lent.can_be_lent_anew()
        if not is_told or any(map(_remembers, {*map(type, own.modules())})):
            raise NotKeptError
        self._look = ModuleLook(trace)
        places = [self._look.places.get(id(one)) for one in lent.sources()]
        self._tensors = pick(place for place in places if place is not None)
        if None in places:  # of a value that was too large to copy, after all
            raise NotKeptError
        self._hooks = trace.hooks
        self._n_hooks = [*map(len, self._hooks)]
        held = state.places()
        found = [one for read in trace.reads for one in self._slots_of(read, held)]
        self._slots = [slot for slot, _ in found]
        self._objects = pick(place for _, place in found)
        values = self._look.values()
        if values is None:  # it was changed meanwhile
            raise NotKeptError
        self._classes = [*map(type, self._objects(values))]

    def lend(self) -> bool:
        """Lend it anew what is the module's; False if that is another module now."""
        values = self._look.values()
        if values is None:
            return False
        objects = self._objects(values)
        if not all(map(is_, map(type, objects), self._classes)):
            return False
        if not self.lent.lend_anew(self._tensors(values)):
            return False
        self._fill(objects)
        return True

    def release(self) -> bool:
        """Put it back as it was, without what is the module's; False if that fails."""
        self.state.put_back()
        if [*map(len, self._hooks)] != self._n_hooks or self.lent.was_written():
            return False
        self._fill(repeat(None))
        self.lent.release()
        return True

    def _fill(self, objects: Iterable[Any]) -> None:
        for (holder, key, place), value in zip(self._slots, objects, strict=False):
            holder[key] = value
            if place is not None:
                self.state.replace(place, value)

    def _slots_of(
        self, read: Read, held: dict[int, int]
    ) -> Iterator[tuple[tuple[Any, Any, int | None], int]]:
        """Yield where a holder has an object of the module's, and where that is."""
        own, values = read.own, read.values()
        if not values:
            return
        is_dict = isinstance(own, dict)
        keys = [*read.items] if is_dict else [*range(len(values))]
        if is_dict and not all(map(is_atom, keys)):
            raise NotKeptError
        ours = {id(one) for one in (own.values() if is_dict else own)}
        order = {key: place for place, key in enumerate(own if is_dict else keys)}
        first = self._look.starts.get(id(read.source))
        if first is None:
            raise NotKeptError
        start = held.get(id(own))
        for place, (key, value) in enumerate(zip(keys, values, strict=True), first):
            if id(value) not in ours or is_atom(value) or key not in order:
                continue
            if not isinstance(own, (dict, list, deque)):  # what has no places to fill
                raise NotKeptError
            yield (own, key, None if start is None else start + order[key]), place


def _remembers(cls: type) -> bool:
    """Check whether a class holds instances, or what it has computed for them."""
    known = _REMEMBERS.get(cls)
    if known is None:
        held = [one for parent in cls.__mro__ for one in vars(parent).values()]
        held = [getattr(one, "__func__", getattr(one, "fget", one)) for one in held]
        cells = [
            cell for one in held for cell in getattr(one, "__closure__", None) or ()
        ]
        known = any(isinstance(one, _LRU_CACHE) for one in held) or any(
            isinstance(_content(cell), nn.Module) for cell in cells
        )
        _REMEMBERS[cls] = known
    return known


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty
        return None


class _Kept(threading.local):
    """The replicas that one thread keeps, by the id of their module and the device."""

    def __init__(self) -> None:
        self.of_module: dict[_Key, tuple[weakref.ref[nn.Module], KeptReplica]] = {}


_Key = tuple[int, torch.device]
_KEPT = _Kept()


def take(module: nn.Module, device: torch.device) -> KeptReplica | None:
    """Return the replica that this thread has kept, if it holds for the module still.

    It is the caller's alone until it is kept again.
    """
    found = _KEPT.of_module.pop((id(module), device), None)
    if found is None or found[0]() is not module:
        return None
    return found[1] if found[1].lend() else None


def keep(module: nn.Module, device: torch.device, kept: KeptReplica) -> None:
    """Keep a replica for the next call of this thread, as long as the module lives."""
    if not kept.release():
        return
    key, of_module = (id(module), device), _KEPT.of_module

    def forget(ended: Any) -> None:
        if key in of_module and of_module[key][0] is ended:
            del of_module[key]

    of_module[key] = weakref.ref(module, forget), kept
