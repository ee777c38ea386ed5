"""What a function finds is what its code would find, of whatever kind the name."""

import os
import types

import pytest

from sklearn_torch_bridge._digest import found_by_function, texts_in

HERE = types.ModuleType("here")
HERE.width = [1]
VALUE = [2]


def make():
    closed = [3]

    def function(a=VALUE, *, b=HERE):
        return closed, HERE.width, a, b, os.environ["STB_TEST"]

    function.note = [4]
    return function, closed


def test_all_that_a_function_finds_is_found(monkeypatch):
    monkeypatch.setenv("STB_TEST", "x")
    function, closed = make()
    found = list(found_by_function(function))
    expected = [VALUE, HERE, [4], closed, HERE.width, "x"]
    assert all(one in found for one in expected)
    assert not any(one is os.environ for one in found)


def test_an_empty_closure_variable_is_something():
    function = lambda: later  # noqa: E731 - it is looked at before `later` is bound
    found = list(found_by_function(function))
    later = 1
    assert len(found) == 1
    assert list(found_by_function(function)) == [later]


def test_an_environment_read_as_a_whole_is_found_whole(monkeypatch):
    monkeypatch.setenv("STB_TEST", "x")
    found = list(found_by_function(lambda: dict(os.environ)))
    assert dict(os.environ) in found


@pytest.mark.parametrize("written", [".nowhere", "json"])
def test_imports_of_libraries_and_of_nothing_bring_nothing(written):
    scope = {"__name__": "__main__"}
    exec(f"def f():\n    from {written} import dumps", scope)  # noqa: S102 - as written
    assert list(found_by_function(scope["f"])) == []


def test_texts_are_those_of_inner_functions_too():
    function = lambda: [lambda: "b", ("a", "c")]  # noqa: E731 - one line of code
    assert sorted(texts_in(function.__code__)) == ["a", "b", "c"]
