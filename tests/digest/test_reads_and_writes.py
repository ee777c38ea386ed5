"""Paths of names, and the names in code."""

import pytest

from sklearn_torch_bridge._digest._reads_and_writes import Flow, names_in


@pytest.mark.parametrize(
    ("read", "path", "expected"),
    [
        (("a",), ("a",), True),
        (("a", "b"), ("a",), True),
        (("a",), ("a", "b"), True),
        (("a", "b"), ("a", "c"), False),
        (("ab",), ("a",), False),
    ],
)
def test_a_place_is_read_with_what_holds_it_and_what_it_holds(read, path, expected):
    assert Flow(read={read}).is_read(path) is expected


def test_what_flows_into_what_is_read_is_read():
    flow = Flow(read={("c",)}, moved={(("a",), ("b",)), (("b",), ("c",))})
    flow.finish()
    assert flow.read == {("a",), ("b",), ("c",)}


def test_an_inner_function_keeps_its_own_names_to_itself():
    flow = Flow()
    inner = Flow(changed={("x",), ("log",)}, moved={(("x",), ("log",))})
    flow.include(inner, frozenset({"x"}))
    assert flow.changed == {("log",)}
    assert flow.moved == set()


def test_names_are_those_of_inner_code_too():
    names = names_in((lambda rows: [row.parent for row in sorted(rows)]).__code__)
    assert names == {"parent", "sorted"}
