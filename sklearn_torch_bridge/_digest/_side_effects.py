"""Find which names a function writes to outside itself: counters, logs, memos.

What a function itself writes to is its working state, whose value does not count: else
a forward that appends to a global list had another fingerprint after each run.

The bytecode is followed without its jumps, with the name of each value on the stack,
where it has one: ``CALLS.append(n)``, ``Counter.calls += n``, ``seen[key] = n``,
``global count``.
"""

import dis
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType
from typing import TypeAlias

__all__ = ["changed_attributes", "changed_names"]

Path: TypeAlias = tuple[str, ...]

_MUTATORS = {
    *("append", "appendleft", "extend", "extendleft", "insert", "add", "update"),
    *("setdefault", "clear", "pop", "popleft", "popitem", "remove", "discard"),
    *("__setitem__", "put", "put_nowait"),
}
_NAMES = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_FAST")
_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")
_WITHOUT_RESULT = ("POP_", "STORE_", "RESUME", "NOP", "CACHE", "PRECALL")


@lru_cache(maxsize=4096)
def changed_names(code: CodeType) -> frozenset[Path]:
    """Return the globals and closure variables that a function writes to.

    >>> calls, names = [], {}
    >>> def f(x):
    ...     calls.append(x)
    ...     names[x] = len(calls)
    ...     return x
    >>> sorted(changed_names(f.__code__))
    [('calls',), ('names',)]
    """
    own = {*code.co_varnames, *code.co_cellvars}
    return frozenset(path for path in _changed(code) if path[0] not in own)


@lru_cache(maxsize=4096)
def changed_attributes(code: CodeType) -> frozenset[str]:
    """Return the attributes of its first argument that a method writes to.

    >>> def __call__(self, x):
    ...     self.sizes.append(len(x))
    ...     self.n += 1
    >>> sorted(changed_attributes(__call__.__code__))
    ['n', 'sizes']
    """
    first, paths = code.co_varnames[:1], _changed(code)
    return frozenset(path[1] for path in paths if path[:1] == first and path[1:])


@lru_cache(maxsize=4096)
def _changed(code: CodeType) -> frozenset[Path]:
    found = set(_follow(code))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= changed_names(constant)
    return frozenset(found)


def _follow(code: CodeType) -> Iterator[Path]:
    """Follow the stack, whose entries are the path of names to a value, or None."""
    stack: list[Path | None] = []
    for step in dis.get_instructions(code):
        name, argument = step.opname, step.argval
        top = stack[-1] if stack else None
        if name in ("STORE_GLOBAL", "DELETE_GLOBAL") or (
            name == "STORE_DEREF" and argument in code.co_freevars
        ):
            yield (argument,)
        elif name in _ATTRIBUTES and argument in _MUTATORS and top:
            yield top
        elif name == "STORE_ATTR" and top:
            yield (*top, argument)
        elif name == "STORE_SUBSCR" and len(stack) > 1 and (owner := stack[-2]):
            yield owner
        _move(stack, step)


def _move(stack: list[Path | None], step: dis.Instruction) -> None:
    """Apply an instruction to the stack of names."""
    name, argument = step.opname, step.argval
    if isinstance(argument, tuple) and "_FAST_" in name:
        _move_two(stack, name, argument)
        return
    depth = len(stack) + dis.stack_effect(step.opcode, step.arg, jump=False)
    result: Path | None = None
    if name == "COPY":
        result = stack[-argument] if argument <= len(stack) else None
    elif name == "SWAP":
        if argument <= len(stack):
            stack[-1], stack[-argument] = stack[-argument], stack[-1]
        return
    elif name.startswith(_NAMES):
        result = (argument,)
    elif name in _ATTRIBUTES and stack and stack[-1]:
        result = (*stack[-1], argument)
    elif (name == "BINARY_SUBSCR" or step.argrepr == "[]") and len(stack) > 1:
        result = stack[-2]  # what changes inside changes the whole
    del stack[max(0, depth) :]
    stack.extend([None] * (depth - len(stack)))
    if stack and not name.startswith(_WITHOUT_RESULT):
        stack[-1] = result


def _move_two(stack: list[Path | None], name: str, locals_: tuple[str, str]) -> None:
    """Load or store two local names at once, as Python does from 3.13 on.

    >>> stack = [("log",)]
    >>> _move_two(stack, "STORE_FAST_LOAD_FAST", ("x", "self"))
    >>> stack
    [('self',)]
    """
    loads = name.startswith("LOAD_"), "_LOAD_" in name
    for local, is_load in zip(locals_, loads, strict=True):
        if is_load:
            stack.append((local,))
        elif stack:
            stack.pop()
