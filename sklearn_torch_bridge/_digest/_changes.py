"""What a function changes outside itself: counters, logs, memos.

A forward that appends to a list of its module's file would have another fingerprint
after each run, if what the list holds counted. What a function writes to by itself is
its working state, and says nothing of what it computes; so such values count by their
type alone.

The bytecode is followed without its jumps, with the name behind each value on the
stack, as far as names go: ``CALLS.append(n)``, ``Counter.calls += n``,
``seen[key] = n``, ``global count``.
"""

import dis
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType
from typing import TypeAlias

__all__ = ["changed_attributes", "changed_names"]

Path: TypeAlias = tuple[str, ...]

_MUTATORS = frozenset(
    {
        *("append", "appendleft", "extend", "extendleft", "insert", "add", "update"),
        *("setdefault", "clear", "pop", "popleft", "popitem", "remove", "discard"),
        *("__setitem__", "put", "put_nowait"),
    }
)
_NAMES = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_FAST"})
_ATTRIBUTES = frozenset({"LOAD_ATTR", "LOAD_METHOD"})


@lru_cache(maxsize=4096)
def changed_names(code: CodeType) -> frozenset[Path]:
    """Give the globals and closure variables that a function writes to.

    >>> calls, names = [], {}
    >>> def f(x):
    ...     calls.append(x)
    ...     names[x] = len(calls)
    ...     return x
    >>> sorted(changed_names(f.__code__))
    [('calls',), ('names',)]
    """
    return frozenset(path for path in _changed(code) if path[0] not in _own(code))


@lru_cache(maxsize=4096)
def changed_attributes(code: CodeType) -> frozenset[str]:
    """Give the attributes of its first argument that a method writes to.

    >>> def __call__(self, x):
    ...     self.sizes.append(len(x))
    ...     self.n += 1
    >>> sorted(changed_attributes(__call__.__code__))
    ['n', 'sizes']
    """
    first = code.co_varnames[:1]
    return frozenset(
        path[1] for path in _changed(code) if path[:1] == first and len(path) > 1
    )


def _own(code: CodeType) -> frozenset[str]:
    return frozenset((*code.co_varnames, *code.co_cellvars))


@lru_cache(maxsize=4096)
def _changed(code: CodeType) -> frozenset[Path]:
    found = set(_follow(code))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            own = _own(constant)
            found |= {path for path in _changed(constant) if path[0] not in own}
    return frozenset(found)


def _follow(code: CodeType) -> Iterator[Path]:
    """Follow the stack; each entry is the path of names to a value, or None."""
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
    """Do to the stack what an instruction does, as far as names go."""
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
    elif name in _NAMES or name.startswith("LOAD_FAST"):
        result = (argument,) if isinstance(argument, str) else None
    elif name in _ATTRIBUTES and stack and stack[-1]:
        result = (*stack[-1], argument)
    elif _takes_item(step) and len(stack) > 1:
        result = stack[-2]  # what changes inside changes the whole
    elif name.startswith(("POP_", "STORE_", "RESUME", "NOP", "CACHE", "PRECALL")):
        del stack[max(0, depth) :]
        return
    del stack[max(0, depth) :]
    stack.extend([None] * (depth - len(stack)))
    if stack:
        stack[-1] = result


def _takes_item(step: dis.Instruction) -> bool:
    """Tell ``value[key]``, which is one of the binary operators from 3.14 on."""
    return step.opname == "BINARY_SUBSCR" or step.argrepr == "[]"


def _move_two(stack: list[Path | None], name: str, locals_: tuple[str, str]) -> None:
    """Load or store two local names at once, as Python does from 3.13 on.

    >>> stack = [("log",)]
    >>> _move_two(stack, "STORE_FAST_LOAD_FAST", ("x", "self"))
    >>> stack
    [('self',)]
    """
    for local, loads in zip(
        locals_, (name.startswith("LOAD_"), "_LOAD_" in name), strict=True
    ):
        if loads:
            stack.append((local,))
        elif stack:
            stack.pop()
