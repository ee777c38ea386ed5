"""Follow the bytecode of a function: which names it writes to, and which it reads.

The stack is followed without its jumps. Each value on it has the path of names to its
place, where it has one, and the places that it was made of. A place is read where such
a value decides anything: is returned, kept in a local name, given to a call, or decides
about a jump. Not read is what only flows back into places that nobody reads:
``calls += 1``, ``log.append(n)``, ``if not warned: warn(); warned = True``.
"""

import dis
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from types import CodeType
from typing import NamedTuple, TypeAlias

from sklearn_torch_bridge._digest._reads_and_writes import Flow, Path

__all__ = ["flow_of"]

_Origins: TypeAlias = frozenset[Path]

_RETURN_NOTHING = {
    *("append", "appendleft", "extend", "extendleft", "insert", "add", "update"),
    *("clear", "remove", "discard", "__setitem__", "put", "put_nowait"),
    *("write", "writelines", "flush"),
}
_MUTATORS = {*_RETURN_NOTHING, "setdefault", "pop", "popleft", "popitem"}
_MAY_RAISE = {"pop", "popleft", "popitem", "remove", "put_nowait"}
_LOGS = {
    *("print", "debug", "info", "warning", "warn", "error", "exception", "critical"),
    *("warning_once", "info_once"),
}
# Calls that change nothing, and return what they make of their object and arguments.
_INSIDE = {"get", "keys", "values", "items"}
_PURE = {
    *(
        "len",
        "int",
        "float",
        "bool",
        "str",
        "repr",
        "abs",
        "min",
        "max",
        "sum",
        "round",
    ),
    *("isinstance", "sorted", "tuple", "list", "dict", "set", "copy", "format", "join"),
    *("item", "size", "dim", "numel", "time", "time_ns", "perf_counter", "monotonic"),
    *("perf_counter_ns", "monotonic_ns", "process_time", "getLogger", "isEnabledFor"),
}
_NAMES = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_FAST")
_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")
_OPERATORS = (
    *("BINARY_", "COMPARE_", "CONTAINS_", "IS_OP", "UNARY_", "BUILD_", "FORMAT_"),
    *("TO_BOOL", "CONVERT_VALUE"),
)
_NOTHING_TAKEN = (
    *("LOAD_", "PUSH_", "KW_NAMES", "RESUME", "NOP", "EXTENDED_ARG", "MAKE_CELL"),
    *("COPY_FREE_VARS", "NOT_TAKEN", "CACHE", "PRECALL", "JUMP_FORWARD"),
)
_JUMPS_BACK = ("JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT")
_CLOSURE = 8  # the flag of an instruction from Python 3.13 on
_SOMEWHERE = ""  # the root of a value without a name


class Value(NamedTuple):
    """A value on the stack: the path to its place, and the places it was made of."""

    path: Path | None = None
    origins: _Origins = frozenset()
    text: str = ""  # of a constant


@lru_cache(maxsize=4096)
def flow_of(code: CodeType) -> Flow:
    """Return what a function, with those defined in it, writes to and reads.

    >>> log, state = [], {}
    >>> def f(x):
    ...     log.append(len(x))
    ...     state["n"] = state.get("n", 0) + 1
    ...     return x * state["n"]
    >>> flow = flow_of(f.__code__)
    >>> sorted(flow.changed), flow.is_read(("log",)), flow.is_read(("state",))
    ([('log',), ('state',)], False, True)
    """
    flow = _Follower(code).run()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            own = frozenset((*constant.co_varnames, *constant.co_cellvars))
            flow.include(flow_of(constant), own)
    flow.finish()
    return flow


@dataclass
class _Guard:
    """A part of the code that is skipped where the values of some places say so."""

    end: int  # an offset
    origins: _Origins
    depth: int  # of the stack


class _Follower:
    """One pass over the instructions of a function."""

    def __init__(self, code: CodeType) -> None:
        self._flow = Flow()
        self._free = frozenset(code.co_freevars)
        self._own = frozenset((*code.co_varnames, *code.co_cellvars, _SOMEWHERE))
        self._steps = list(dis.get_instructions(code))
        self._catches = any(
            step.opname == "CHECK_EXC_MATCH"
            or (step.opname == "PUSH_EXC_INFO" and after.opname == "POP_TOP")
            for step, after in pairwise(self._steps)
        )
        self._stack: list[Value] = []
        self._guards: list[_Guard] = []
        self._log: _Origins | None = None  # what the call just before has logged
        self._answer: Path | None = None  # what the call just before has changed

    def run(self) -> Flow:
        """Follow all instructions."""
        for place, step in enumerate(self._steps):
            self._end_guards(step.offset)
            self._use_of_result(step.opname)
            name, argument = step.opname, step.argval
            if isinstance(argument, tuple) and "_FAST_" in name:
                self._two(name, argument)
            elif name in ("STORE_GLOBAL", "DELETE_GLOBAL", "STORE_DEREF"):
                self._store_name(name, argument)
            elif name in ("STORE_ATTR", "STORE_SUBSCR", "DELETE_SUBSCR"):
                self._store_part(name, argument)
            elif name in ("CALL", "CALL_KW"):
                self._call((step.arg or 0) + (name == "CALL_KW"))
            elif name.startswith("POP_JUMP"):
                self._jump(place)
            elif not self._move(step):
                self._take(step, place)
        return self._flow

    # --- the stack -------------------------------------------------------------------

    def _pop(self, n: int = 1) -> list[Value]:
        """Take values off the stack, the uppermost first."""
        return [self._stack.pop() if self._stack else Value() for _ in range(n)]

    def _push(self, path: Path | None = None, origins: Iterable[Path] = ()) -> None:
        self._stack.append(Value(path, frozenset(origins)))

    def _load(self, path: Path) -> None:
        self._flow.loaded.add(path)
        self._push(path, [path])

    def _two(self, name: str, names: tuple[str, str]) -> None:
        """Load or store two local names at once, as Python does from 3.13 on."""
        loads = name.startswith("LOAD_"), "_LOAD_" in name
        for local, is_load in zip(names, loads, strict=True):
            if is_load:
                self._load((local,))
            else:
                self._reads(*self._pop())
                self._acts()

    def _move(self, step: dis.Instruction) -> bool:
        """Follow what only loads, moves or combines values; return whether it does."""
        name, argument, stack = step.opname, step.argval, self._stack
        if name == "COPY":
            self._stack.append(stack[-argument] if argument <= len(stack) else Value())
        elif name == "SWAP":
            self._stack[:0] = [Value()] * max(0, argument - len(stack))
            stack[-1], stack[-argument] = stack[-argument], stack[-1]
        elif name == "BINARY_SUBSCR" or step.argrepr == "[]":
            index, owner = self._pop(2)  # what changes inside changes the whole
            self._push(owner.path, owner.origins | index.origins)
            if self._catches:  # whether it is there decides
                self._flow.read |= owner.origins
        elif name.startswith(_OPERATORS):
            n_taken = 1 - dis.stack_effect(step.opcode, step.arg)
            self._push(None, _origins(self._pop(n_taken)))
        elif name == "POP_TOP":
            self._pop()
        else:
            return self._move_named(step)
        return True

    def _move_named(self, step: dis.Instruction) -> bool:
        """Follow what loads a name or an attribute; return whether it does."""
        name, argument = step.opname, step.argval
        if name == "LOAD_CONST" and isinstance(argument, str):
            self._stack.append(Value(text=argument))
            return True
        if name.startswith(_NAMES):
            self._fill(step)
            self._pop()
            self._load((argument,))
            return True
        if name in _ATTRIBUTES:
            (owner,) = self._pop()
            if dis.stack_effect(step.opcode, step.arg) > 0:  # of a method
                self._stack.append(owner)
            if owner.path is not None:
                self._load((*owner.path, argument))
            else:
                self._push((_SOMEWHERE, argument), owner.origins)
            return True
        return False

    def _fill(self, step: dis.Instruction) -> None:
        for _ in range(dis.stack_effect(step.opcode, step.arg, jump=False)):
            self._push()

    def _take(self, step: dis.Instruction, place: int) -> None:
        """Follow any other instruction: what it takes is read."""
        name = step.opname
        if name in _JUMPS_BACK or name.startswith("RETURN_") or name == "JUMP_FORWARD":
            self._leave(place)
        if name == "PRECALL":
            return  # its call takes the arguments
        effect = dis.stack_effect(step.opcode, step.arg, jump=False)
        if name == "SET_FUNCTION_ATTRIBUTE" and step.arg == _CLOSURE:
            self._pop()  # an inner function, which has its turn
        elif not name.startswith(_NOTHING_TAKEN) and name not in _JUMPS_BACK:
            if not name.startswith("RETURN_"):
                self._acts()
            n_taken = max(1, -effect)
            self._reads(*self._pop(n_taken))
            effect += n_taken
        for _ in range(effect):
            self._push()

    # --- what is written -------------------------------------------------------------

    def _store_name(self, name: str, argument: str) -> None:
        taken = [] if name == "DELETE_GLOBAL" else self._pop()
        if name == "STORE_DEREF" and argument not in self._free:
            self._reads(*taken)
            self._acts()
        else:
            self._flow.rebound.add((argument,))
            self._flows(_origins(taken), (argument,))

    def _store_part(self, name: str, argument: str) -> None:
        """Follow ``owner.argument = value`` and ``owner[index] = value``."""
        if name == "STORE_ATTR":
            owner, value = self._pop(2)
            taken = [value]
        else:
            index, owner = self._pop(2)
            taken = [index] if name == "DELETE_SUBSCR" else [index, *self._pop()]
        if owner.path is None:
            self._reads(owner, *taken)
            self._acts()
        elif name == "STORE_ATTR":
            self._flow.rebound.add((*owner.path, argument))
            self._flows(_origins(taken), (*owner.path, argument))
        else:
            self._flow.changed.add(owner.path)
            self._flows(_origins(taken), owner.path)

    def _call(self, n_arguments: int) -> None:
        arguments = self._pop(n_arguments)
        second, first = self._pop(2)
        called = second if second.path else first
        path = called.path or (_SOMEWHERE,)
        owner, name = path[:-1], path[-1]
        given = _origins(arguments)
        if owner and (name in _MUTATORS or _is_in_place(name)):
            self._flow.changed.add(owner)
            self._flows(given, owner)
            if self._catches and name in _MAY_RAISE:
                self._flow.read.add(owner)
            if name in _RETURN_NOTHING:
                self._answer = owner
                self._push()
            else:
                self._push(owner, [owner])
        elif name in _LOGS:
            self._log = given
            self._push()
        elif owner and name in _INSIDE:
            self._push(owner, [*called.origins, owner, *given])
        elif path == ("next",) and arguments and (taken := arguments[-1]).path:
            self._flow.changed.add(taken.path)
            self._push(None, given)
        elif path == ("getattr",) and len(arguments) > 1:
            self._get_attribute(*arguments[::-1])
        elif path == ("type",) and len(arguments) == 1 and arguments[0].path:
            self._push((*arguments[0].path, "__class__"), given)
        elif name in _PURE:
            self._push(None, [*(called.origins if owner else ()), *given])
        else:
            self._reads(called, *arguments)
            self._acts()
            self._push()

    def _get_attribute(self, owner: Value, name: Value, *default: Value) -> None:
        if owner.path is None or not name.text:
            self._flow.loaded.add((_SOMEWHERE, "getattr"))  # any
            self._reads(owner, name, *default)
            self._push()
        else:
            self._load((*owner.path, name.text))
            (found,) = self._pop()
            self._push(found.path, found.origins | _origins(default))

    def _use_of_result(self, name: str) -> None:
        """See whether the result of a log, or of a change, is used by this step."""
        if name in ("CACHE", "EXTENDED_ARG"):
            return
        if name != "POP_TOP":
            self._flow.read |= self._log or set()
            self._flow.answered |= {self._answer} if self._answer else set()
        self._log = self._answer = None

    # --- what is read ----------------------------------------------------------------

    def _reads(self, *values: Value) -> None:
        self._flow.read |= _origins(values)

    def _flows(self, origins: _Origins, place: Path) -> None:
        """Note that values, and those that decided to come here, went to a place."""
        found = origins.union(*(guard.origins for guard in self._guards))
        self._flow.moved |= {(one, place) for one in found}
        if place[0] in self._own:  # of the caller's, who may read it
            self._flow.read |= {one for one in found if one[0] != place[0]}

    # --- jumps -----------------------------------------------------------------------

    def _acts(self) -> None:
        """Note that something was done that matters: so do all reasons to come here."""
        for guard in self._guards:
            self._flow.read |= guard.origins

    def _jump(self, place: int) -> None:
        """Begin the part that a conditional jump skips."""
        step = self._steps[place]
        origins = _origins(self._pop())
        end = step.argval
        if end <= step.offset:  # the next round of a loop: the rest of this is skipped
            later = self._steps[place + 1 :]
            ends = (
                one.offset
                for one in later
                if one.opname in _JUMPS_BACK and one.argval == end
            )
            end = next(ends, step.offset)
        if any(end > guard.end for guard in self._guards):
            self._acts()
        if end <= step.offset:
            self._flow.read |= origins
        elif origins:
            self._guards.append(_Guard(end, origins, len(self._stack)))

    def _leave(self, place: int) -> None:
        """Follow a way out of the parts that may be skipped."""
        step = self._steps[place]
        for guard in self._guards:
            if step.opname == "JUMP_FORWARD" and len(self._stack) == guard.depth:
                guard.end = max(guard.end, step.argval)
            elif self._way_out(guard.end) != self._way_out(self._begins(place)):
                self._flow.read |= guard.origins

    def _begins(self, place: int) -> int:
        """Return the offset at which a way out begins: that of a constant returned."""
        before, step = self._steps[max(0, place - 1)], self._steps[place]
        is_value = step.opname == "RETURN_VALUE" and before.opname == "LOAD_CONST"
        return before.offset if is_value else step.offset

    def _way_out(self, offset: int) -> object:
        """Return what is done at once from an offset on, if that leaves."""
        later = [step for step in self._steps if step.offset >= offset][:2]
        names = [step.opname for step in later]
        if names and (names[0] in _JUMPS_BACK or names[0] == "RETURN_CONST"):
            return names[0], later[0].argval
        if names == ["LOAD_CONST", "RETURN_VALUE"]:
            return names[1], later[0].argval
        return offset

    def _end_guards(self, offset: int) -> None:
        """End the parts that are skipped up to here."""
        for guard in self._guards:
            if guard.end <= offset and len(self._stack) > guard.depth:
                self._flow.read |= guard.origins  # it chose between two values
        self._guards = [guard for guard in self._guards if guard.end > offset]


def _origins(values: Iterable[Value]) -> _Origins:
    return frozenset().union(*(value.origins for value in values))


def _is_in_place(name: str) -> bool:
    """Return whether a method is one of tensors that work in place, by its name."""
    return name.endswith("_") and not name.endswith("__")
