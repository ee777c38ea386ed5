"""What a function writes to and reads, by paths of names."""

from dataclasses import dataclass, field
from functools import lru_cache
from types import CodeType
from typing import TypeAlias

__all__ = ["Flow", "Path", "names_in"]

Path: TypeAlias = tuple[str, ...]
"""A name, and the attributes that lead on from there."""


@dataclass
class Flow:
    """What a function writes to and reads, by paths that begin at one of its names."""

    rebound: set[Path] = field(default_factory=set)
    changed: set[Path] = field(default_factory=set)  # by a method, or an item set
    read: set[Path] = field(default_factory=set)
    answered: set[Path] = field(default_factory=set)  # changed by methods that return
    loaded: set[Path] = field(default_factory=set)  # for whatever use
    moved: set[tuple[Path, Path]] = field(default_factory=set)  # from, to

    def is_read(self, path: Path) -> bool:
        """Return whether a place, what holds it or what it holds, is read."""
        return any(
            one[: len(path)] == path or path[: len(one)] == one for one in self.read
        )

    def include(self, other: "Flow", own: frozenset[str]) -> None:
        """Add what an inner function does outside its `own` names."""
        for name in ("rebound", "changed", "read", "answered", "loaded"):
            found = {path for path in getattr(other, name) if path[0] not in own}
            getattr(self, name).update(found)
        self.moved |= {
            pair for pair in other.moved if own.isdisjoint(path[0] for path in pair)
        }

    def finish(self) -> None:
        """Add to what is read what flows into it."""
        grown = True
        while grown:
            found = {one for one, other in self.moved if self.is_read(other)}
            grown = not found <= self.read
            self.read |= found


@lru_cache(maxsize=4096)
def names_in(code: CodeType) -> frozenset[str]:
    """Return all names outside, and of attributes, in a code object and those in it."""
    inner = (one for one in code.co_consts if isinstance(one, CodeType))
    return frozenset((*code.co_names, *code.co_freevars)).union(*map(names_in, inner))
