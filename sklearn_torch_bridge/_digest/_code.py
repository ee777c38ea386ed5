"""What the code of a Python function is, and which names outside it refers to.

Bytecode says what a function does without file names and line numbers, and is the
same in another process. Another Python version has another.
"""

import dis
import hashlib
import inspect
import struct
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType, EllipsisType
from typing import Any, NamedTuple

__all__ = ["Import", "Reference", "code_digest", "imports", "references"]

_GLOBALS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_ATTRIBUTES = frozenset({"LOAD_ATTR", "LOAD_METHOD"})


class Reference(NamedTuple):
    """A global name, and the attributes taken of it at once: ``np.linalg.norm``."""

    name: str
    attributes: tuple[str, ...]


class Import(NamedTuple):
    """A module imported inside a function, and the names taken from it."""

    module: str
    names: tuple[str, ...]


@lru_cache(maxsize=4096)
def code_digest(code: CodeType) -> bytes:
    """Identify what a code object does, whatever its name and place.

    >>> double = lambda x: 2 * x
    >>> also_double = lambda x: 2 * x
    >>> triple = lambda x: 3 * x
    >>> code_digest(double.__code__) == code_digest(also_double.__code__)
    True
    >>> code_digest(double.__code__) == code_digest(triple.__code__)
    False
    """
    return _digest_constant(
        (
            code.co_code,
            code.co_exceptiontable,
            (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount),
            code.co_flags & ~inspect.CO_NESTED,
            code.co_varnames,
            code.co_names,
            code.co_freevars,
            code.co_cellvars,
            code.co_consts,
        )
    )


def _digest_constant(value: Any) -> bytes:
    """Identify what the compiler may keep as a constant, with its type.

    The order of a frozenset is another in each process.
    """
    if isinstance(value, CodeType):
        content = code_digest(value)
    elif isinstance(value, (tuple, frozenset)):
        parts = map(_digest_constant, value)
        content = b"".join(parts if isinstance(value, tuple) else sorted(parts))
    elif isinstance(value, bytes):
        content = value
    elif isinstance(value, str):
        content = value.encode("utf-8", "surrogatepass")
    elif isinstance(value, float):
        content = struct.pack("<d", value)
    elif isinstance(value, complex):
        content = struct.pack("<dd", value.real, value.imag)
    elif isinstance(value, slice):  # a constant from Python 3.14 on
        content = _digest_constant((value.start, value.stop, value.step))
    else:
        assert value is None or isinstance(value, (bool, int, EllipsisType))  # noqa: S101 - marshal knows no other
        content = repr(value).encode()
    name = type(value).__name__.encode()
    return hashlib.blake2b(name + b":" + content, digest_size=32).digest()


@lru_cache(maxsize=4096)
def references(code: CodeType) -> tuple[Reference, ...]:
    """List the global names that a function refers to, sorted.

    >>> import torch
    >>> references((lambda x: torch.nn.functional.relu(scale * x)).__code__)
    (Reference(name='scale', attributes=()), \
Reference(name='torch', attributes=('nn', 'functional', 'relu')))
    """
    found: set[Reference] = set()
    for part in _with_inner(code):
        name, attributes = "", []
        for step in dis.get_instructions(part):
            if step.opname == "EXTENDED_ARG":
                continue
            if name and step.opname in _ATTRIBUTES:
                attributes.append(step.argval)
                continue
            if name:
                found.add(Reference(name, tuple(attributes)))
            name, attributes = "", []
            if step.opname in _GLOBALS and step.argval != "__name__":
                name = step.argval  # every class body reads its module's name
    return tuple(sorted(found))


@lru_cache(maxsize=4096)
def imports(code: CodeType) -> tuple[Import, ...]:
    """List what a function imports when it runs, sorted; relative names keep dots.

    >>> def f():
    ...     from math import pi
    ...     import os.path
    >>> imports(f.__code__)
    (Import(module='math', names=('pi',)), Import(module='os.path', names=()))
    """
    found: set[Import] = set()
    for part in _with_inner(code):
        before: list[Any] = [0, None]  # the level and the names are loaded first
        for step in dis.get_instructions(part):
            if step.opname == "EXTENDED_ARG":
                continue
            if step.opname == "IMPORT_NAME":
                level, names = before
                found.add(Import("." * level + step.argval, names or ()))
            before = [before[1], step.argval]
    return tuple(sorted(found))


def _with_inner(code: CodeType) -> Iterator[CodeType]:
    """Give a code object and all that are defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _with_inner(constant)
