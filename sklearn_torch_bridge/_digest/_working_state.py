"""Attributes that code writes to: they count if what may run reads one of that name."""

from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType
from typing import Any, NamedTuple

from sklearn_torch_bridge._digest._flow import flow_of
from sklearn_torch_bridge._digest._reads_and_writes import names_in

__all__ = ["MAKERS", "WorkingState"]

MAKERS = {"__init__", "__new__", "__post_init__", "__setstate__", "__init_subclass__"}
_NOT_RUN = {  # by what computes: these make, show, compare and copy objects
    *(*MAKERS, "__eq__", "__hash__"),
    *("__repr__", "__str__", "__del__", "__getstate__", "__reduce__", "__reduce_ex__"),
    *("__copy__", "__deepcopy__", "__getnewargs__", "__getnewargs_ex__"),
}


class _Code(NamedTuple):
    """The attributes that a function reads, and all that it mentions."""

    method: str  # its name in a class, "" of a function outside
    reads: frozenset[str]
    names: frozenset[str]


class WorkingState:
    """The attributes left out of what was written, and the code that was written."""

    def __init__(self) -> None:
        self._left_out: dict[int, dict[str, Any]] = {}
        self._owners: list[Any] = []  # else another object may get the same `id`
        self._methods: dict[int, str] = {}
        self._codes: list[_Code] = []
        self._written: list[CodeType] = []

    def leave_out(self, owner: Any, name: str, value: Any) -> None:
        """Leave an attribute of an object out until the end."""
        self._owners.append(owner)
        self._left_out.setdefault(id(owner), {}).setdefault(name, value)

    def leave_out_for_good(self, owner: Any, name: str) -> None:
        """Leave an attribute out, whoever reads it."""
        self.leave_out(owner, name, None)
        self._left_out[id(owner)][name] = None

    def counted(self, owner: Any, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Return the attributes of an object without those left out."""
        left_out = self._left_out.get(id(owner), {})
        return {name: attributes[name] for name in attributes if name not in left_out}

    def add_method(self, function: Any, name: str) -> None:
        """Note that a function is run by whatever mentions its name."""
        self._owners.append(function)
        self._methods[id(function)] = name

    def add_code(self, function: FunctionType) -> None:
        """Note which attributes a function reads."""
        self._written.append(function.__code__)
        flow = flow_of(function.__code__)
        reads = frozenset(name for path in flow.read for name in path[1:])
        names = {name for path in flow.loaded for name in path[1:]}
        method = self._methods.get(id(function), "")
        self._codes.append(_Code(method, reads, frozenset(names)))

    def mentioned(self) -> frozenset[str]:
        """Return all names that the code written mentions, also of attributes."""
        return frozenset().union(*(names_in(code) for code in self._written))

    def pop_read(self) -> Iterator[tuple[str, Any]]:
        """Yield the attributes left out that what may run reads, each once."""
        reads = self._reads()
        for attributes in list(self._left_out.values()):
            for name in sorted(attributes.keys() & reads):
                yield name, attributes.pop(name)

    def _reads(self) -> set[str]:
        """Return the names of all attributes read by what may run.

        What is in no class, special methods, and methods whose names those mention.
        """
        names = {"forward"}
        reads: set[str] = set()
        left, n_left = self._codes, -1
        while n_left != len(left):
            n_left = len(left)
            run = [code for code in left if _may_run(code.method, names)]
            left = [code for code in left if not _may_run(code.method, names)]
            names = names.union(*(code.names for code in run))
            reads = reads.union(*(code.reads for code in run))
        return reads if "getattr" not in names else self._all_left_out()

    def _all_left_out(self) -> set[str]:
        return {name for attributes in self._left_out.values() for name in attributes}


def _may_run(method: str, names: set[str]) -> bool:
    if method in _NOT_RUN:
        return False
    is_special = method[:2] == method[-2:] == "__" or not method
    return is_special or method in names
