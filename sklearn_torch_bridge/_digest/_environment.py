"""Find which environment variables a function reads, by the names in its bytecode.

``os.environ.get("DEBUG")``, ``os.environ["DEBUG"]``, ``"DEBUG" in os.environ`` and
``os.getenv("DEBUG")``, however these were imported, and with a global str as the name;
and the names in the text of ``os.path.expandvars("$DATA/x")``.

What is no variable by name does not count: where a user's home, the temporary folder or
the working directory is, who the user is, which locale is set, where programs are.
"""

import dis
import os
import re
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, ModuleType
from typing import Any, NamedTuple, TypeAlias

from sklearn_torch_bridge._digest._reads_and_writes import names_in

__all__ = ["is_environment", "variables_used"]

LookUp: TypeAlias = Callable[[str], Any]


class _Step(NamedTuple):
    """An instruction: its name and argument, and how it changes the stack."""

    name: str
    argument: Any
    effect: int = 0


_MAPPINGS = [os.environ] + [os.environb] * hasattr(os, "environb")
_FUNCTIONS = [os.getenv] + [os.getenvb] * hasattr(os, "getenvb")
# They live for ever.
_PLACES = frozenset(map(id, (*_MAPPINGS, *_FUNCTIONS, os.path.expandvars)))
_OF_OS = frozenset({"environ", "environb", "getenv", "getenvb", "expandvars"})
_IN_TEXTS = re.compile(r"\$\{?(\w+)|%(\w+)%" if os.name == "nt" else r"\$\{?(\w+)")
_BY_NAME = frozenset({"get", "setdefault", "pop", "__getitem__", "__contains__"})
_LOADS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_FAST")
_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")
_SUBSCRIPTS = ("BINARY_SUBSCR", "BINARY_OP", "DELETE_SUBSCR")
_IGNORED = ("EXTENDED_ARG", "CACHE", "NOP", "RESUME", "PUSH_NULL", "PRECALL")
_COMBINE = ("BINARY_", "BUILD_", "CALL", "FORMAT_", "LOAD_ATTR", "LOAD_M", "UNARY_")
_END = _Step("", None)


def is_environment(value: Any) -> bool:
    """Return whether a value is ``os.environ``."""
    return id(value) in _PLACES and not callable(value)


class Variables(NamedTuple):
    """The names of variables that are read, and set; None: one that is not constant."""

    read: set[str | None]
    written: set[str | None]


def variables_used(code: CodeType, look_up: LookUp) -> Variables:
    """Return which variables of the environment a function reads, and sets.

    `look_up` returns what a global or closure variable refers to.

    >>> f = lambda: os.environ.get("DEBUG") or os.getenv("LEVEL", "3")
    >>> sorted(variables_used(f.__code__, {"os": os}.get).read)
    ['DEBUG', 'LEVEL']
    """
    names = names_in(code)
    if _OF_OS.isdisjoint(names) and _PLACES.isdisjoint(map(id, map(look_up, names))):
        return Variables(set(), set())  # as nearly always; the rest takes a while
    steps = [_END, *_steps(code), _END, _END]
    own = _imported(steps)

    def value_of(step: _Step) -> Any:
        name, argument, _ = step
        if name == "LOAD_CONST":
            return argument
        if not name.startswith(_LOADS) or argument in own:
            return own.get(argument) if name.startswith(_LOADS) else None
        return None if "FAST" in name else look_up(argument)

    uses = list(_uses(steps, value_of))
    found = Variables(
        {name for name, is_read in uses if is_read},
        {name for name, is_read in uses if not is_read},
    )
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner = variables_used(constant, lambda name: own.get(name, look_up(name)))
            found.read.update(inner.read)
            found.written.update(inner.written)
    return found


def _uses(
    steps: list[_Step], value_of: Callable[[_Step], Any]
) -> Iterator[tuple[str | None, bool]]:
    """Yield the name of each use of the environment, and whether that reads."""
    for place, step in enumerate(steps):
        value, after = value_of(step), place + 1
        while isinstance(value, ModuleType) and steps[after][0] in _ATTRIBUTES:
            value = getattr(value, steps[after][1], None)
            after += 1
        if callable(value) and id(value) in _PLACES:
            given = _given(steps, after, value_of)
            is_text = value is os.path.expandvars and given is not None
            for name in _names_in_text(given or "") if is_text else [given]:
                yield name, True
        elif is_environment(value):
            yield _use_of_mapping(steps, place, after, value_of)


def _use_of_mapping(
    steps: list[_Step], place: int, after: int, value_of: Callable[[_Step], Any]
) -> tuple[str | None, bool]:
    """Return the name that the steps after a mapping use it by, and if that reads."""
    name, argument, _ = steps[after]
    if name in _ATTRIBUTES and argument in _BY_NAME:
        return _given(steps, after + 1, value_of), True
    if name == "CONTAINS_OP":
        return _as_name(value_of(steps[place - 1])), True
    if steps[after + 1].name in _SUBSCRIPTS:
        return _as_name(value_of(steps[after])), True
    if steps[after + 1].name == "STORE_SUBSCR":
        return _as_name(value_of(steps[after])), False
    return None, True


def _given(
    steps: list[_Step], place: int, value_of: Callable[[_Step], Any]
) -> str | None:
    """Return the constant that a call is given first; None if it is put together."""
    depth = 1
    for name, _, effect in steps[place + 1 :]:
        n_taken = 1 - min(effect, 0) if name.startswith(_COMBINE) else -effect
        if depth - n_taken < 1:
            return _as_name(value_of(steps[place])) if name[:4] == "CALL" else None
        depth += effect
    return None


def _names_in_text(text: str) -> list[str | None]:
    """List the variables that a text names.

    >>> _names_in_text("$HOME/${DATA}/x")
    ['HOME', 'DATA']
    """
    return ["".join(names) for names in map(re.Match.groups, _IN_TEXTS.finditer(text))]


def _as_name(value: Any) -> str | None:
    return os.fsdecode(value) if isinstance(value, (str, bytes)) else None


def _imported(steps: list[_Step]) -> Mapping[str, Any]:
    """Return what of ``os`` a function imports itself, by its local names."""
    found: dict[str, Any] = {}
    value: Any = None
    for name, argument, _ in steps:
        if name == "IMPORT_NAME":
            value = os if argument.partition(".")[0] == "os" else None
        elif name == "IMPORT_FROM":
            held = getattr(os, argument, getattr(os.path, argument, None))
            value = held if value is not None else None
        elif name.startswith("STORE_") and value is not None:
            found[argument] = value
            value = os
        else:
            value = None
    return found


def _steps(code: CodeType) -> Iterator[_Step]:
    """Yield names and arguments of instructions; two for two in one."""
    before = 0  # what those left out have changed
    for step in dis.get_instructions(code):
        name, argument = step.opname, step.argval
        effect = dis.stack_effect(step.opcode, step.arg, jump=False) + before
        before = effect if name in _IGNORED else 0
        if name in _IGNORED:
            continue
        if isinstance(argument, tuple) and "_FAST_" in name:
            loads = name.startswith("LOAD_"), "_LOAD_" in name
            kinds = ("LOAD_FAST" if is_load else "STORE_FAST" for is_load in loads)
            for kind, local in zip(kinds, argument, strict=True):
                yield _Step(kind, local, 1 if kind == "LOAD_FAST" else -1)
        else:
            yield _Step(name, argument, effect)
