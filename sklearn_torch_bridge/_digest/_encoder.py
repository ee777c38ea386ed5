"""Any value as one unambiguous stream of bytes, hashed as it is written.

Every value is its kind, the length of its content and its content, so that no two
streams are equal that mean different values. A value that was written before is
written as its number: cycles end, and what is shared is told from what is equal. Of
what other threads may change meanwhile, a copy is written.
"""

import hashlib
import re
import reprlib
import struct
from collections.abc import Callable, Mapping
from types import EllipsisType, NoneType, NotImplementedType
from typing import Any

import torch

from sklearn_torch_bridge._errors import FingerprintError

__all__ = ["ATOMS", "CACHE_KEY", "Encoder", "Writer"]

CACHE_KEY = (
    "Give `cache_key`, a str that you change whenever this would change the result."
)

Writer = Callable[["Encoder", Any], None]
"""Writes one value of a kind that it knows."""


def _of_text(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _of_name(value: object) -> bytes:
    return str(value).encode()


ATOMS: dict[type, tuple[bytes, Callable[[Any], bytes]]] = {
    NoneType: (b"none", lambda _: b""),
    EllipsisType: (b"ellipsis", lambda _: b""),
    NotImplementedType: (b"notimplemented", lambda _: b""),
    bool: (b"bool", _of_name),
    int: (b"int", lambda value: b"%x" % value),
    float: (b"float", struct.Struct("<d").pack),
    complex: (b"complex", lambda value: struct.pack("<dd", value.real, value.imag)),
    str: (b"str", _of_text),
    bytes: (b"bytes", bytes),
    bytearray: (b"bytearray", bytes),
    torch.dtype: (b"torchdtype", _of_name),
    torch.device: (b"device", _of_name),
    torch.layout: (b"layout", _of_name),
    torch.memory_format: (b"memoryformat", _of_name),
}
# Immutable, and shared as the compiler or a cache likes.
_BY_VALUE = frozenset({tuple, frozenset, range, slice, re.Pattern, torch.Size})


class Encoder:
    """One stream: what was written to it, and the way to what is being written.

    `writer_of` gives the writer of any value that is no atom and no plain container.
    `name` is what the user calls the value, and `advice` what errors end with. With
    `lenient`, what nothing can identify counts by its type and place alone, where it
    otherwise is an error.
    """

    def __init__(
        self,
        writer_of: Callable[[Any], Writer],
        *,
        name: str,
        advice: str,
        lenient: bool,
    ) -> None:
        self._name = name
        self._advice = advice
        self._writer_of = writer_of
        self._lenient = lenient
        self._hash = hashlib.blake2b(digest_size=32)
        self._numbers: dict[int, int] = {}
        self._alive: list[Any] = []  # an identity is free again when its object dies
        self._path: list[tuple[str, object]] = []

    def digest(self) -> bytes:
        """Sum up what was written."""
        return self._hash.digest()

    def put(self, kind: bytes, content: Any = b"") -> None:
        """Write one piece of bytes under the name of its kind, which is letters."""
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
        """Write a part of a value; errors call it by its role and name."""
        self._path.append((role, name))
        self.add(value)
        self._path.pop()  # not when it raises: then the error has named the place

    def add_instead(self, value: Any, original: Any) -> None:
        """Write what `value` merely wraps, as if it had come itself."""
        del self._numbers[id(value)]
        self.add(original)

    def add_named(self, values: Mapping[str, Any], role: str) -> None:
        """Write named values, whose order says nothing."""
        parts = dict(values)
        self.put(b"named", b"%d" % len(parts))
        for name in sorted(parts, key=str):
            self.add(name)
            self.add_part(parts[name], role, name)

    def refuse(self, value: Any, what: str, cause: Exception | None = None) -> None:
        """Say that nothing can identify `value`, or pass over it."""
        cls = type(value)
        if self._lenient:
            self.put(b"unknown", _of_text(f"{cls.__module__}.{cls.__qualname__}"))
            return
        steps = reversed(self._path)
        place = " of ".join(f"{role} {reprlib.repr(name)}" for role, name in steps)
        msg = (
            f"{self._name} cannot be fingerprinted: {place or 'it'} is {what} "
            f"({cls.__module__}.{cls.__qualname__}). {self._advice}"
        )
        raise FingerprintError(msg) from cause

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
            self.put(
                cls.__name__.encode(), b"".join(sorted(map(self._alone, value.copy())))
            )
        else:
            self._writer_of(value)(self, value)

    def _alone(self, item: Any) -> bytes:
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
