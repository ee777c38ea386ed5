"""What the copy of a module was made of: what was read of it, and what it became."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, NamedTuple

import torch
from torch import nn

from sklearn_torch_bridge._replica._held_state import HeldState

__all__ = ["CopyTrace", "Kind", "Read", "dicts_of", "kind_of"]


class Kind(Enum):
    """How what something holds is read."""

    MODULE = auto()  # by its ``__dict__``
    OBJECT = auto()  # likewise
    NAMED = auto()  # a dict with names
    HOOKS = auto()  # a dict, which others may add to
    MAPPING = auto()  # a dict of any keys
    SEQUENCE = auto()


class Read(NamedTuple):
    """What something held as it was copied, and the dict or list that holds copies."""

    kind: Kind
    source: Any
    own: Any
    items: Any

    def values(self) -> list[Any]:
        """List what was held, without keys."""
        is_dict = isinstance(self.items, dict)
        return [*(self.items.values() if is_dict else self.items)]


@dataclass(eq=False)
class CopyTrace:
    """What a copy was made of, with children before parents.

    `signature` is equal for the same module another time, if no part, plain value or
    tensor (but for its values) was replaced. `idle` are dicts and sets of the module
    that held nothing, `bare` its parameters without attributes, and `hooks` the dicts
    of the copy for hooks. A trace that is not whole lacks something that was read.
    """

    signature: list[Any] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    idle: list[Any] = field(default_factory=list)
    bare: list[torch.Tensor] = field(default_factory=list)
    hooks: list[dict[int, Any]] = field(default_factory=list)
    arrays: list[Any] = field(default_factory=list)
    is_whole: bool = True
    _tensors: list[torch.Tensor] = field(default_factory=list)
    _own_idle: list[Any] = field(default_factory=list)
    _has_own_code: bool = False
    _unknown: list[nn.Module] = field(default_factory=list)

    def add(self, kind: Kind, source: Any, own: Any, items: Any) -> None:
        """Note what was read."""
        if not items and (kind is Kind.NAMED or isinstance(source, set)):
            self.idle.append(source)
            self._own_idle.append(own)
        else:
            self.reads.append(Read(kind, source, own, items))
        if kind is Kind.MODULE:
            home = type(source).__module__
            self._has_own_code |= not home.startswith("torch.nn.modules.")

    def add_hooks(self, source: dict[int, Any], own: dict[int, Any]) -> None:
        """Note a dict for hooks."""
        self.hooks.append(own)
        if own:
            self._has_own_code = True
        else:
            self.idle.append(source)

    def add_tensor(self, source: torch.Tensor | None, own: Any) -> None:
        """Note a tensor or generator; `source` is a parameter with its attributes."""
        if isinstance(own, torch.Generator):
            self.is_whole = False
            return
        self._tensors.append(own)
        if source is not None:
            if items := vars(source).copy():
                self.add(Kind.OBJECT, source, vars(own), items)
            else:
                self.bare.append(source)

    @property
    def n_reads(self) -> int:
        """How much was read so far."""
        return len(self.reads)

    def forget(self, n_reads: int) -> None:
        """Forget what came after: it was not copied after all."""
        del self.reads[n_reads:]

    def add_unknown(self, own: nn.Module) -> None:
        """Note the copy of a module that has copied itself."""
        self._unknown.append(own)
        self.is_whole = False
        self._has_own_code = True

    def state(self) -> HeldState:
        """Return what copies hold now: nothing where only torch's own code runs.

        Hooks are left out, for others add their own.
        """
        if not self._has_own_code:
            return HeldState([], [])
        holders = [read.own for read in self.reads if read.kind is not Kind.HOOKS]
        holders += self._own_idle
        dicts = [one for one in holders if isinstance(one, dict)]
        lists = [one for one in holders if isinstance(one, (list, deque, set))]
        for own in self._unknown:
            dicts += dicts_of(own)
        known = {*map(id, dicts)}
        dicts += (one for one in map(vars, self._tensors) if id(one) not in known)
        return HeldState(dicts, lists, self.arrays)


def dicts_of(part: nn.Module) -> list[dict[str, Any]]:
    """List the attributes of a module, and what it registers."""
    state = vars(part)
    return [state, state["_parameters"], state["_buffers"], state["_modules"]]


def kind_of(value: Any) -> Kind:
    """Return how a container is read, or an object that only holds state."""
    if isinstance(value, Mapping):
        return Kind.MAPPING
    is_sequence = isinstance(value, (list, deque))
    return Kind.SEQUENCE if is_sequence else Kind.OBJECT
