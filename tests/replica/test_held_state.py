from collections import Counter, OrderedDict, defaultdict, deque

import numpy as np
import pytest

from sklearn_torch_bridge._replica._held_state import HeldState, containers_in


def holders():
    return {
        "dict": {"a": 1, "b": 2},
        "empty": {},
        "ordered": OrderedDict(a=1, b=2),
        "default": defaultdict(list, a=1, b=2),
        "counter": Counter(a=1, b=2),
        "list": [1, 2],
        "deque": deque([1, 2], maxlen=2),
        "set": {1, 2},
    }


CHANGES = {
    "clear": lambda one: one.clear(),
    "replace": lambda one: one.update(a=5) if isinstance(one, dict) else one.pop(),
    "more": lambda one: (
        one.update(c=3)
        if isinstance(one, dict)
        else getattr(one, "append", getattr(one, "add", None))(3)
    ),
}


@pytest.mark.parametrize("name", holders())
@pytest.mark.parametrize("change", CHANGES)
def test_holders_hold_again_what_they_held(name, change):
    found, before = holders(), holders()
    dicts = [one for one in found.values() if isinstance(one, dict)]
    state = HeldState(dicts, [one for one in found.values() if one not in dicts])
    for _ in range(2):
        CHANGES[change](found[name])
        state.put_back()
        assert found == before
        assert state.is_as_it_was()


@pytest.mark.parametrize("value", [True, 1.0])
def test_what_is_equal_is_not_the_same(value):
    holder = {"a": 1}
    state = HeldState([holder], [])
    holder["a"] = value
    assert not state.is_as_it_was()
    state.put_back()
    assert type(holder["a"]) is int


def test_the_order_of_names_is_put_back():
    holder = {"a": None, "b": None}
    state = HeldState([holder], [])
    del holder["a"]
    holder["a"] = None
    state.put_back()
    assert list(holder) == ["a", "b"]


def test_another_value_may_be_held_from_now_on():
    holder = {"a": 1, "b": 2}
    state = HeldState([holder], [])
    holder["b"] = 3
    state.replace(state.places()[id(holder)] + 1, 3)
    assert state.is_as_it_was()


def test_arrays_hold_their_values_again():
    array = np.zeros(2)
    state = HeldState([], [], [array])
    array += 1
    state.put_back()
    assert array.tolist() == [0, 0]


def test_containers_are_found_inside_of_each_other():
    inner = [1]
    cycle = [inner]
    cycle.append(cycle)
    assert containers_in(({"a": inner}, cycle))[0] is cycle
    assert len(containers_in(({"a": inner}, cycle))) == 3
    assert containers_in(3) == []
