"""Tell at little cost whether a module is still what a copy was made of.

What is looked at is reached through the module each time, and held by nothing: a module
ends with its last user, and may be freed of parts at any time.
"""

import gc
import types
import weakref
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from operator import attrgetter, is_, itemgetter, methodcaller
from typing import Any, NamedTuple

import numpy as np

from sklearn_torch_bridge._replica._copy_trace import CopyTrace, Kind, Read

__all__ = ["ModuleLook", "is_atom", "pick"]

_values = methodcaller("values")
_forward = attrgetter("forward")
_GROUPS = (
    (Kind.MODULE, Kind.OBJECT),
    (Kind.NAMED,),
    (Kind.HOOKS, Kind.MAPPING),
    (Kind.SEQUENCE,),
)
_Pick = Callable[[Sequence[Any]], Sequence[Any]]


class _Level(NamedTuple):
    """Holders found among the values of the levels before, and what they held."""

    objects: _Pick
    named: _Pick
    others: _Pick  # dicts of any keys
    sequences: _Pick
    classes: list[type]
    lengths: list[int]
    names: list[str]
    ids: list[int]


class ModuleLook:
    """What was read of a module for a copy, to be compared with what it is later.

    Objects are known by their address. That will do for modules, held weakly, for what
    is looked into in turn, and for atoms, which are held so that no other takes their
    place. Of the rest it says nothing: take it from `values` anew.
    """

    def __init__(self, trace: CopyTrace) -> None:
        self.places: dict[int, int] = {}
        """Where an object is among `values`, by its id."""
        self.starts: dict[int, int] = {}
        """Where what it holds begins, by the id of a holder."""
        self._atoms: list[Any] = []
        self._ids: list[int] = []
        modules = [one for one in trace.reads if one.kind is Kind.MODULE]
        self._parts = [weakref.ref(one.source) for one in modules]
        self._addresses = [id(one.source) for one in modules]
        self._classes = [type(one.source) for one in modules]
        code = [(one, one.forward) for one in dict.fromkeys(self._classes)]
        self._with_code, self._code = zip(*code, strict=True)
        left = {id(one.source): one for one in trace.reads}
        for address in self._addresses:
            del left[address]
        self._first, found = self._level(modules, left)
        self._levels: list[_Level] = []
        while found:
            level, found = self._level(found, left)
            self._levels.append(level)
        self._bare, self._empty = self._pick(trace.bare), self._pick(trace.idle)

    def values(self) -> list[Any] | None:
        """Return all that is held now, in one order; None if anything was replaced."""
        parts = [part() for part in self._parts]
        first = self._first
        if (
            [*map(id, parts)] != self._addresses
            or [*map(type, parts)] != self._classes
            or not all(map(is_, map(_forward, self._with_code), self._code))
        ):
            return None
        dicts = [*map(vars, parts)]
        is_alike = [*map(len, dicts)] == first.lengths
        if not is_alike or [*chain.from_iterable(dicts)] != first.names:
            return None
        values = [*chain.from_iterable(map(dict.values, dicts))]
        if [*map(id, values)] != first.ids:
            return None
        for level in self._levels:
            found = _look(level, values)
            if found is None:
                return None
            values += found
        has_more = any(self._empty(values)) or any(map(vars, self._bare(values)))
        return None if has_more else values

    def _level(
        self, reads: list[Read], left: dict[int, Read]
    ) -> tuple[_Level, list[Read]]:
        """Return what some holders hold, and those among it that hold something."""
        groups = [[read for read in reads if read.kind in kinds] for kinds in _GROUPS]
        objects, named, others, sequences = groups
        start = len(self._ids)
        values: list[Any] = []
        for read in chain(objects, named):
            self.starts[id(read.source)] = start + len(values)
            values += read.values()
        values += chain.from_iterable(read.items for read in others)
        for read in chain(others, sequences):
            self.starts[id(read.source)] = start + len(values)
            values += read.values()
        picks = [self._pick(read.source for read in group) for group in groups]
        full = [read for group in groups for read in group]
        level = _Level(
            *(picks[0], picks[1], picks[2], picks[3]),
            classes=[type(read.source) for read in full],
            lengths=[len(read.items) for read in full],
            names=[*chain.from_iterable(read.items for read in (*objects, *named))],
            ids=[*map(id, values)],
        )
        self._ids += level.ids
        self._atoms += filter(is_atom, values)
        found = []
        for place, value in enumerate(values, start):
            if self.places.setdefault(id(value), place) == place and id(value) in left:
                found.append(left.pop(id(value)))
        return level, found

    def _pick(self, sources: Iterable[Any]) -> _Pick:
        found = (self.places.get(id(source)) for source in sources)
        return pick(place for place in found if place is not None)


def _look(level: _Level, values: list[Any]) -> list[Any] | None:
    """Return what the holders of a level hold now; None if anything was replaced."""
    objects, named = level.objects(values), level.named(values)
    others, sequences = level.others(values), level.sequences(values)
    if [*map(type, chain(objects, named, others, sequences))] != level.classes:
        return None
    dicts = [*map(vars, objects), *named]
    lengths = [*map(len, dicts), *map(len, others), *map(len, sequences)]
    if lengths != level.lengths or [*chain.from_iterable(dicts)] != level.names:
        return None
    found = [*chain.from_iterable(map(_values, dicts))]
    if others:
        found += chain.from_iterable(others)
        found += chain.from_iterable(map(_values, others))
    if sequences:
        found += chain.from_iterable(sequences)
    return found if [*map(id, found)] == level.ids else None


def pick(places: Iterable[int]) -> _Pick:
    """Return a function that takes the values at some places of a sequence.

    >>> pick([2, 0])("abc"), pick([1])("abc"), pick([])("abc")
    (('c', 'a'), ('b',), ())
    """
    chosen = [*places]
    if len(chosen) > 1:
        several: _Pick = itemgetter(*chosen)
        return several
    return (lambda values: (values[chosen[0]],)) if chosen else lambda _: ()


def is_atom(value: Any) -> bool:
    """Check whether to hold an object is to hold nothing else, but code."""
    if not gc.is_tracked(value):  # as dicts and tuples of atoms are not, for a time
        return not isinstance(value, (dict, tuple, np.ndarray))
    if isinstance(value, types.FunctionType):
        return not (value.__closure__ or value.__defaults__ or value.__kwdefaults__)
    return isinstance(value, (types.BuiltinFunctionType, type))
