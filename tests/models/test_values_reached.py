"""Whatever a callable reads shows in what is reached, however deep it lies."""

import functools
import os
import types
import weakref
from collections import defaultdict
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge.models._values_reached import ValuesReached

VARIABLE = "STB_TEST_WIDTH"
WIDTH = ContextVar("width")
CALLS = []


class Pair(NamedTuple):
    net: nn.Module
    sizes: list


class Settings:
    width = 2
    depth = 1

    @staticmethod
    def sizes():
        return Settings.depth


class Inherited(Settings):
    def make(self):
        return nn.Linear(self.width, 1)


class Slotted:
    __slots__ = ("inner",)

    def __init__(self, inner):
        self.inner = inner


@dataclass
class Config:
    sizes: list = field(default_factory=lambda: [1, {"width": 2}])


class Counting(nn.Module):
    n_seen = 0

    def __init__(self, width=2):
        super().__init__()
        self.inner = nn.Linear(width, 1)

    def forward(self, x):
        Counting.n_seen += len(x)
        CALLS.append(len(x))
        return self.inner(x)


def returning(value):
    """Return a function that closes over a value."""
    return lambda: value


def calling(function):
    return lambda: nn.Linear(function(), 1)


def decorated(function):
    @functools.wraps(function)
    def wrapper():
        return function()

    return wrapper


def of_environment():
    return nn.Linear(int(os.environ.get(VARIABLE, "1")), 1)


def of_class():
    return nn.Linear(Settings.width, 1)


def of_made_object():
    return Inherited().make()


def of_static_method():
    return nn.Linear(Settings.sizes(), 1)


def of_context():
    return nn.Linear(WIDTH.get(), 1)


def in_containers():
    """Return callables that find a value inside something, with a way to change it."""
    nested = {"a": [{"width": 2}, 3]}
    slotted = Slotted(Slotted([1]))
    config, pair = Config(), Pair(nn.ReLU(), [1])
    by_default = defaultdict(dict, a={"width": 1})
    names, space = {"a"}, types.SimpleNamespace(inner=types.SimpleNamespace(width=1))
    array, tensor = np.zeros(3), torch.zeros(3)
    inner, large = [1], torch.zeros(100_000)
    given = functools.partial(Counting, functools.partial(len, inner))
    return {
        "nested": (returning(nested), lambda: nested["a"][0].update(width=3)),
        "key": (returning(nested), lambda: nested.update(b=nested.pop("a"))),
        "slots": (returning(slotted), lambda: slotted.inner.inner.append(2)),
        "dataclass": (returning(config), lambda: config.sizes[1].update(width=4)),
        "named tuple": (returning(pair), lambda: pair.sizes.append(1)),
        "defaultdict": (returning(by_default), by_default["a"].clear),
        "set": (returning(names), lambda: names.add("b")),
        "namespace": (returning(space), lambda: setattr(space.inner, "width", 2)),
        "array": (returning(array), lambda: array.__setitem__(0, 1)),
        "tensor": (returning(tensor), lambda: tensor.data.add_(1)),
        "large tensor": (returning(large), lambda: large.add_(1)),
        "partial": (given, lambda: inner.append(2)),
        "type": (returning(inner), lambda: inner.__setitem__(0, True)),
        "weak": (returning(weakref.ref(config)), lambda: config.sizes.append(1)),
    }


def through_code():
    """Return callables that find a value through other code."""
    first, second = [1], [1]

    def with_default(value=first):
        return value

    def with_attribute():
        return with_attribute.value

    with_attribute.value = [1]
    remembered = functools.lru_cache(calling(returning(second)))
    in_library = torch.no_grad()(returning(second))
    bound = second.copy
    grow = functools.partial(second.append, 2)
    return {
        "default": (calling(with_default), lambda: first.append(1)),
        "attribute": (with_attribute, lambda: with_attribute.value.append(1)),
        "closure of another": (calling(returning(second)), grow),
        "decorated": (decorated(returning(second)), grow),
        "remembered": (remembered, grow),
        "wrapped by torch": (in_library, grow),
        "method in C": (calling(bound), grow),
        "class": (of_class, lambda: setattr(Settings, "width", 3)),
        "base class": (of_made_object, lambda: setattr(Settings, "width", 4)),
        "static method": (of_static_method, lambda: setattr(Settings, "depth", 5)),
        "context": (of_context, lambda: WIDTH.set(object())),
        "environment": (of_environment, lambda: os.environ.__setitem__(VARIABLE, "2")),
    }


@pytest.fixture
def _as_it_was(monkeypatch):
    monkeypatch.setenv(VARIABLE, "1")
    for name in ("width", "depth"):
        monkeypatch.setattr(Settings, name, getattr(Settings, name))
    monkeypatch.setattr(Counting, "n_seen", 0)


@pytest.mark.usefixtures("_as_it_was")
@pytest.mark.parametrize("name", [*in_containers(), *through_code()])
def test_a_change_shows(name):
    model, change = (in_containers() | through_code())[name]
    before = ValuesReached(model).seen
    assert ValuesReached(model).seen == before
    change()
    assert ValuesReached(model).seen != before


@pytest.mark.usefixtures("_as_it_was")
def test_what_a_forward_writes_does_not_count():
    before = ValuesReached(Counting).seen
    made = Counting()
    made(torch.ones(1, 2))
    assert CALLS
    assert ValuesReached(Counting).seen == before


def test_equal_content_bound_anew_is_the_same():
    sizes = {"a": [{"width": 2.5}]}
    model = returning(sizes)
    before = ValuesReached(model).seen
    sizes["a"] = [{"width": float("2.5")}]
    assert ValuesReached(model).seen == before


def test_nothing_reached_is_kept_alive():
    net, held = nn.ReLU(), Slotted(nn.ReLU())
    alive = weakref.ref(net), weakref.ref(held.inner)
    kept = ValuesReached(returning([net, held])).seen
    del net, held
    assert kept
    assert [one() for one in alive] == [None, None]


def test_cycles_end_and_depth_is_bounded():
    cycle = []
    cycle.append(cycle)
    deep = []
    for _ in range(10_000):
        deep = [deep]
    assert ValuesReached(returning([cycle, deep])).seen
