"""Digest the bytecode of a function, and list the names outside that it refers to.

Bytecode has no file names or line numbers that matter, and is the same in another
process, but not in another Python version.
"""

import dis
import inspect
from collections.abc import Callable, Iterator
from functools import lru_cache
from types import CodeType, EllipsisType, NoneType
from typing import Any, TypeAlias

from sklearn_torch_bridge._digest._encoder import ATOMS
from sklearn_torch_bridge._tensor_bytes import new_hash

__all__ = ["code_digest", "imports", "references"]

Names: TypeAlias = tuple[str, tuple[str, ...]]

_GLOBALS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_ATTRIBUTES = frozenset({"LOAD_ATTR", "LOAD_METHOD"})


@lru_cache(maxsize=4096)
def code_digest(code: CodeType) -> bytes:
    """Digest what a code object does, whatever its name and place.

    >>> double, also_double, triple = lambda x: 2 * x, lambda x: 2 * x, lambda x: 3 * x
    >>> len({code_digest(f.__code__) for f in (double, also_double, triple)})
    2
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
    """Digest what the compiler may keep as a constant, with its type."""
    content = _CONSTANTS[type(value)](value)
    return new_hash(b"%b:%b" % (type(value).__name__.encode(), content)).digest()


_CONSTANTS: dict[type, Callable[[Any], bytes]] = {
    CodeType: code_digest,
    tuple: lambda value: b"".join(map(_digest_constant, value)),
    # Its order differs between processes.
    frozenset: lambda value: b"".join(sorted(map(_digest_constant, value))),
    # A constant from Python 3.14 on.
    slice: lambda value: _digest_constant((value.start, value.stop, value.step)),
    int: lambda value: b"%d" % value,
    NoneType: lambda _: b"None",
    EllipsisType: lambda _: b"Ellipsis",
    **{kind: ATOMS[kind][1] for kind in (bool, bytes, complex, float, str)},
}


@lru_cache(maxsize=4096)
def references(code: CodeType) -> tuple[Names, ...]:
    """List the global names that a function reads, with attributes read at once.

    >>> import torch
    >>> references((lambda x: torch.nn.functional.relu(scale * x)).__code__)
    (('scale', ()), ('torch', ('nn', 'functional', 'relu')))
    """
    found: set[Names] = set()
    name, attributes = "", []
    for step in _instructions(code):
        if name and step.opname in _ATTRIBUTES:
            attributes.append(step.argval)
            continue
        if name:
            found.add((name, tuple(attributes)))
        name, attributes = "", []
        if step.opname in _GLOBALS and step.argval != "__name__":
            name = step.argval  # every class body reads its module's name
    return tuple(sorted(found))


@lru_cache(maxsize=4096)
def imports(code: CodeType) -> tuple[Names, ...]:
    """List the modules that a function imports, with their dots, and the names taken.

    >>> def f():
    ...     from math import pi
    ...     import os.path
    >>> imports(f.__code__)
    (('math', ('pi',)), ('os.path', ()))
    """
    found: set[Names] = set()
    before: list[Any] = [0, None]
    for step in _instructions(code):
        if step.opname == "IMPORT_NAME":
            level, names = before  # they are loaded first
            found.add(("." * level + step.argval, names or ()))
        before = [before[1], step.argval]
    return tuple(sorted(found))


def _instructions(code: CodeType) -> Iterator[dis.Instruction]:
    """Yield the instructions of a code object and of all that are defined in it."""
    steps = dis.get_instructions(code)
    yield from (step for step in steps if step.opname != "EXTENDED_ARG")
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _instructions(constant)
