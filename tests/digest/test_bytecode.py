"""Digests of bytecode, and the names that it refers to."""

import types

import pytest

from sklearn_torch_bridge._digest import digest
from sklearn_torch_bridge._digest._bytecode import code_digest
from tests.digest.test_functions_and_classes import SCALE, ten_lines_up


@pytest.mark.parametrize(
    ("field", "counts"),
    [
        ("co_code", True),
        ("co_consts", True),
        ("co_names", True),
        ("co_varnames", True),
        ("co_freevars", True),
        ("co_exceptiontable", True),
        ("co_flags", True),
        ("co_argcount", True),
        ("co_kwonlyargcount", True),
        ("co_filename", False),
        ("co_firstlineno", False),
        ("co_name", False),
        ("co_qualname", False),
        ("co_linetable", False),
    ],
)
def test_of_code_what_it_does_counts(field, counts):
    free = 1

    def function(x, *, y):
        try:
            return x + y * free
        except TypeError:
            return None

    code = function.__code__
    value = getattr(code, field)
    new = value + 1 if isinstance(value, int) else value + type(value)(value[:1])
    changed = types.SimpleNamespace(
        **{
            name: getattr(code, name)
            for name in dir(code)
            if name.startswith("co_") and name != "co_lnotab"  # deprecated in 3.12
        }
        | {field: new}
    )
    assert (code_digest.__wrapped__(changed) != code_digest(code)) == counts


def test_slices_may_be_constants():
    """The compiler makes them from Python 3.14 on."""
    code = ten_lines_up.__code__
    slices = [slice(1, 2), slice(1, 3), slice(0, 2), slice(1, 2, 1), (1, 2, None)]
    changed = [code.replace(co_consts=(None, part)) for part in slices]
    assert len({code_digest.__wrapped__(one) for one in changed}) == len(slices)
    again = code.replace(co_consts=(None, slice(1, 2)))
    assert code_digest.__wrapped__(again) == code_digest.__wrapped__(changed[0])


def test_code_of_a_function_may_be_replaced():
    def one(x):
        return x

    before = digest(one)
    one.__code__ = (lambda x: -x).__code__
    assert digest(one) != before


def test_running_a_function_changes_nothing():
    """Python 3.11 rewrites the code of functions that run often."""

    def one(x):
        return sum(i * SCALE for i in range(x)) + len("abc")

    before = digest(one)
    for _ in range(1_000):
        one(3)
    assert digest(one) == before


def test_imports_that_lead_nowhere_count_too():
    bodies = [
        "import no_such_module",
        "import no_such_module.part",
        "from no_such_module import part",
        "from no_such_module import other",
        "from math import no_such_name",
        "from . import part",
        "from .. import part",
    ]

    def digests():
        for body in bodies:
            names = {"__name__": "__main__", "__package__": None}
            exec(f"def call():\n    {body}", names)  # noqa: S102 - a text of our own
            yield digest(names["call"])

    found = list(digests())
    assert len(set(found)) == len(bodies)
    assert list(digests()) == found
