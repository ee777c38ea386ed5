"""A mapping from callables, each by its identity, as long as they live."""

import weakref
from collections.abc import Iterator, MutableMapping
from types import MethodType
from typing import Any, Generic, TypeVar

__all__ = ["ByCallable"]

_V = TypeVar("_V")
_MOST_KEPT = 8  # of objects without weak references


class ByCallable(MutableMapping[Any, _V], Generic[_V]):
    """What belongs to callables, also to those that cannot be hashed or compared.

    A bound method, which is another object each time, is known by its owner. Of what
    takes no weak references (classes with ``__slots__``) the last few are kept alive.
    """

    def __init__(self) -> None:
        self._values: dict[tuple[int, int], tuple[Any, _V]] = {}
        self._kept: dict[tuple[int, int], Any] = {}

    def __getitem__(self, key: Any) -> _V:
        return self._values[_place(key)][1]

    def __setitem__(self, key: Any, value: _V) -> None:
        place = _place(key)
        owner = key.__self__ if isinstance(key, MethodType) else key
        try:
            alive: Any = weakref.ref(owner, lambda _: self._values.pop(place, None))
        except TypeError:
            alive = owner
            self._kept[place] = owner
            if len(self._kept) > _MOST_KEPT:
                oldest = next(iter(self._kept))
                del self._kept[oldest]
                self._values.pop(oldest, None)
        self._values[place] = alive, value

    def __delitem__(self, key: Any) -> None:
        del self._values[_place(key)]
        self._kept.pop(_place(key), None)

    def __contains__(self, key: object) -> bool:
        return _place(key) in self._values

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._values))

    def __len__(self) -> int:
        return len(self._values)


def _place(key: Any) -> tuple[int, int]:
    if isinstance(key, MethodType):
        return id(key.__self__), id(key.__func__)
    return id(key), 0
