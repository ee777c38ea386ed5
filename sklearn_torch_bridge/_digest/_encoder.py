"""Write any value as one unambiguous stream of bytes, which is hashed.

Every value is written as its kind, the length of its content and its content, so that
different values have different streams. What was written before is written as its
number: so cycles end, and shared values differ from equal ones. Of what other threads
may change, a copy is written.
"""

import hashlib
import re
import reprlib
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import EllipsisType, NoneType, NotImplementedType
from typing import Any

import torch

from sklearn_torch_bridge._digest._working_state import WorkingState
from sklearn_torch_bridge._errors import FingerprintError
from sklearn_torch_bridge._tensor_bytes import new_hash

__all__ = ["ATOMS", "CACHE_KEY", "Encoder", "Writer"]

CACHE_KEY = (
    "Give `cache_key`, a str that you change whenever this would change the result."
)

_CARRIED = (
    "read and written by the code that uses it, so that what becomes of a row depends "
    "on the rows before it"
)

Writer = Callable[["Encoder", Any], object]
"""Writes one value of a certain kind."""


def _to_bytes(value: object) -> bytes:
    return str(value).encode("utf-8", "surrogatepass")


ATOMS: dict[type, tuple[bytes, Callable[[Any], bytes]]] = {
    NoneType: (b"none", lambda _: b""),
    EllipsisType: (b"ellipsis", lambda _: b""),
    NotImplementedType: (b"notimplemented", lambda _: b""),
    bool: (b"bool", _to_bytes),
    int: (b"int", lambda value: b"%x" % value),
    float: (b"float", struct.Struct("<d").pack),
    complex: (b"complex", lambda value: struct.pack("<dd", value.real, value.imag)),
    str: (b"str", _to_bytes),
    bytes: (b"bytes", bytes),
    bytearray: (b"bytearray", bytes),
    torch.dtype: (b"torchdtype", _to_bytes),
    torch.device: (b"device", _to_bytes),
    torch.layout: (b"layout", _to_bytes),
    torch.memory_format: (b"memoryformat", _to_bytes),
}
# Immutable: whether two are one object depends on the compiler or a cache.
_BY_VALUE = frozenset({tuple, frozenset, range, slice, re.Pattern, torch.Size})


@dataclass(kw_only=True, eq=False)
class Encoder:
    """One stream of bytes, and the path to the value that is being written.

    `writer_of` returns the writer of a value that is no atom and no built-in container.
    Errors call the value `name` and end with `advice`; if `lenient`, what cannot be
    identified counts by its type and place alone instead.
    """

    writer_of: Callable[[Any], Writer]
    name: str
    advice: str
    lenient: bool
    _hash: hashlib.blake2b = field(default_factory=new_hash, init=False)
    _numbers: dict[int, int] = field(default_factory=dict, init=False)
    # Else another object may get the same `id`.
    _alive: list[Any] = field(default_factory=list, init=False)
    _path: list[tuple[str, object]] = field(default_factory=list, init=False)
    _last: list[tuple[Any, str, object]] = field(default_factory=list, init=False)
    working: WorkingState = field(default_factory=WorkingState, init=False)

    def digest(self) -> bytes:
        """Return the digest of what was written, and of what was to come last."""
        found = list(self.working.pop_read())
        while found:  # what is written now may read more
            for name, value in found:
                self.add_part(value, "attribute", name)
            found = list(self.working.pop_read())
        strict, self.lenient = not self.lenient, True
        for value, role, place in self._last:  # which may grow
            self.add_part(value, role, place)
        self._last.clear()
        self.lenient = not strict
        return self._hash.digest()

    def put(self, kind: bytes, content: Any = b"") -> None:
        """Write bytes after the name of their kind, which consists of letters."""
        if type(content) is bytes:  # nearly always: one call
            self._hash.update(b"%b%d:%b" % (kind, len(content), content))
            return
        self._hash.update(b"%b%d:" % (kind, len(content)))
        self._hash.update(content)

    def add(self, value: Any) -> None:
        """Write any value."""
        cls = type(value)
        atom = ATOMS.get(cls)
        if atom is not None:
            kind, content_of = atom
            content = content_of(value)
            self._hash.update(b"%b%d:%b" % (kind, len(content), content))
        elif cls in _BY_VALUE:
            self._add_new(value)
        elif id(value) in self._numbers:
            self.put(b"again", b"%d" % self._numbers[id(value)])
        else:
            self._numbers[id(value)] = len(self._numbers)
            self._alive.append(value)
            self._add_new(value)

    def add_part(self, value: Any, role: str, name: object) -> None:
        """Write a part of a value, which errors call by its role and name."""
        self._path.append((role, name))
        self.add(value)
        self._path.pop()  # not after an error, whose message has named the place

    def add_last(self, value: Any, role: str, name: object) -> None:
        """Write a part after all else, where parts that cannot be identified may be."""
        self._last.append((value, role, name))

    def add_instead(self, value: Any, original: Any) -> None:
        """Write `original` in place of `value`, which only wraps it."""
        del self._numbers[id(value)]
        self.add(original)

    def add_named(self, values: Mapping[str, Any], role: str) -> None:
        """Write named values, whose order does not matter."""
        parts = dict(values)
        self.put(b"named", b"%d" % len(parts))
        for name in sorted(parts, key=str):
            self.add(name)
            self.add_part(parts[name], role, name)

    def refuse(self, value: Any, what: str, cause: Exception | None = None) -> None:
        """Raise FingerprintError for `value`, or if `lenient` write its type."""
        cls = type(value)
        if self.lenient:
            self.put(b"unknown", _to_bytes(f"{cls.__module__}.{cls.__qualname__}"))
            return
        steps = reversed(self._path)
        place = " of ".join(f"{role} {reprlib.repr(name)}" for role, name in steps)
        msg = (
            f"{self.name} cannot be fingerprinted: {place or 'it'} is {what} "
            f"({cls.__module__}.{cls.__qualname__}). {self.advice}"
        )
        raise FingerprintError(msg) from cause

    def refuse_part(self, value: Any, role: str, name: object, what: str) -> None:
        """Refuse a part of a value, which errors call by its role and name."""
        self._path.append((role, name))
        self.refuse(value, what)
        self._path.pop()

    def refuse_carried(self, value: Any, role: str, name: object) -> None:
        """Refuse a part that code reads and writes; if `lenient` leave it out."""
        if self.lenient:
            self.put(b"workingstate")
        else:
            self.refuse_part(value, role, name, _CARRIED)

    def _add_new(self, value: Any) -> None:
        cls = type(value)
        if cls is tuple or cls is list:
            items = tuple(value)
            self.put(cls.__name__.encode(), b"%d" % len(items))
            for place, item in enumerate(items):
                self.add_part(item, "item", place)
        elif cls is dict:
            pairs = value.copy().items()
            self.put(b"dict", b"%d" % len(pairs))
            for key, item in pairs:
                self.add_part(key, "key", key)
                self.add_part(item, "value at", key)
        elif cls is set or cls is frozenset:
            items_alone = sorted(map(self._digest_alone, value.copy()))
            self.put(cls.__name__.encode(), b"".join(items_alone))
        else:
            self.writer_of(value)(self, value)

    def _digest_alone(self, item: Any) -> bytes:
        """Digest an item of a set as if it came first: sets have no order."""
        if type(item) in ATOMS:
            kind, content_of = ATOMS[type(item)]
            return hashlib.blake2b(kind + b":" + content_of(item)).digest()
        outside = self._hash, self._numbers
        self._hash = hashlib.blake2b()
        self._numbers = dict(self._numbers)
        try:
            self.add_part(item, "item", item)
            return self._hash.digest()
        finally:
            self._hash, self._numbers = outside
