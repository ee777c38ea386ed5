"""What modules hold in Python: dicts, lists and the like, put back as they were."""

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain
from operator import is_, methodcaller
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["HeldState", "containers_in"]

_values = methodcaller("values")
_DICTS = (dict, OrderedDict, defaultdict, Counter)
_LISTS = (list, deque, set)
_MOST_HOLDERS = 1_000


class HeldState:
    """What some dicts, lists, deques, sets and arrays hold now, by identity.

    Told in C, at about 30 nanoseconds an item, so that each batch may be preceded by a
    look. What a tensor holds is no concern of this.
    """

    def __init__(
        self,
        dicts: Sequence[dict[Any, Any]],
        lists: Sequence[Any],
        arrays: Sequence[NDArray[Any]] = (),
    ) -> None:
        self._empty = [one for one in (*dicts, *lists) if not one]
        self._dicts = [one for one in dicts if one]
        self._lists = [one for one in lists if one]
        self._arrays = [(one, one.copy()) for one in arrays]
        self._note()

    def __bool__(self) -> bool:
        return bool(self._dicts)

    def _note(self) -> None:
        self._lengths = [*map(len, self._dicts), *map(len, self._lists)]
        self._names: list[Any] = [*chain.from_iterable(self._dicts)]
        self._held: list[Any] = [*self._flat()]

    def _flat(self) -> Iterator[Any]:
        ours = chain.from_iterable(map(_values, self._dicts))
        return chain(ours, chain.from_iterable(self._lists))

    def places(self) -> dict[int, int]:
        """Return by the id of each holder where its values begin among all."""
        holders = (*self._dicts, *self._lists)
        starts = accumulate(self._lengths, initial=0)
        return {id(one): start for one, start in zip(holders, starts, strict=False)}

    def replace(self, place: int, value: Any) -> None:
        """Take another value for the one that is held at a place."""
        self._held[place] = value

    def is_as_it_was(self) -> bool:
        """Check whether all hold the same objects as before; arrays aside."""
        return (
            not any(self._empty)
            and [*map(len, self._dicts), *map(len, self._lists)] == self._lengths
            and all(map(is_, chain.from_iterable(self._dicts), self._names))
            and all(map(is_, self._flat(), self._held))
        )

    def put_back(self) -> None:
        """Let all hold again what they held before."""
        for array, before in self._arrays:
            np.copyto(array, before)
        if not self.is_as_it_was():
            self._put_back()

    def _put_back(self) -> None:
        for holder in self._empty:
            holder.clear()
        start = 0
        lengths = iter(self._lengths)
        for holder in self._dicts:
            stop = start + next(lengths)
            pairs = zip(self._names[start:stop], self._held[start:stop], strict=True)
            _fill_dict(holder, dict(pairs))
            start = stop
        for holder in self._lists:
            stop = start + next(lengths)
            _fill_list(holder, self._held[start:stop])
            start = stop
        self._note()  # a set may have them in another order


def containers_in(value: Any) -> list[Any]:
    """List the containers that can be put back: a value itself, and those inside.

    >>> containers_in(({"a": [1]}, 2))
    [{'a': [1]}, [1]]
    """
    found: dict[int, Any] = {}
    left = [value]
    while left and len(found) < _MOST_HOLDERS:
        one = left.pop()
        if type(one) in _DICTS or type(one) in _LISTS:
            if id(one) in found:
                continue
            found[id(one)] = one
        elif type(one) is not tuple:
            continue
        left += one.values() if isinstance(one, dict) else one
    return [*found.values()]


def _fill_dict(holder: dict[Any, Any], before: dict[Any, Any]) -> None:
    is_same = len(holder) == len(before) and all(map(is_, holder, before))
    if is_same and all(map(is_, holder.values(), before.values())):
        return
    holder.clear()
    if isinstance(holder, Counter):  # whose own `update` counts
        dict.update(holder, before)
    else:
        holder.update(before)


def _fill_list(holder: Any, before: list[Any]) -> None:
    if len(holder) == len(before) and all(map(is_, holder, before)):
        return
    holder.clear()
    if isinstance(holder, (list, deque)):
        holder.extend(before)
    else:
        holder.update(before)
