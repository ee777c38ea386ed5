"""Callables of all kinds as `model`: each is called once, and forgotten in time."""

import copy
import functools
import gc
import pickle
from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.base import clone
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge.models._by_callable import ByCallable


@dataclass
class Builder:
    """Equal to others like it, so that it cannot be hashed."""

    width: int

    def __call__(self):
        return nn.Linear(4, self.width)

    def build(self):
        return self()


class Slotted:
    __slots__ = ("width",)

    def __init__(self, width=3):
        self.width = width

    def __call__(self):
        return nn.Linear(4, self.width)

    def build(self):
        return self()


class Incomparable(Slotted):
    def __eq__(self, other):
        raise ValueError

    __hash__ = None


def build(width):
    return nn.Linear(4, width)


KINDS = {
    "dataclass": Builder(3),
    "slots": Slotted(),
    "incomparable": Incomparable(),
    "partial": functools.partial(build, 3),
    "method": Builder(3).build,
    "method of slots": Slotted().build,
}


@pytest.mark.parametrize("model", KINDS.values(), ids=KINDS)
def test_every_callable_is_called_once(model, cache, rng):
    X = rng.normal(size=(3, 4)).astype(np.float32)
    extractor = TorchFeatureExtractor(model)
    Z = extractor.fit_transform(X)  # weights drawn once more would differ
    np.testing.assert_array_equal(extractor.transform(X), Z)
    np.testing.assert_array_equal(clone(extractor).transform(X), Z)
    extractor.set_params(cache=cache)
    np.testing.assert_array_equal(extractor.transform(X), Z)
    for route in (copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))):  # noqa: S301 - our own bytes
        assert route(TorchFeatureExtractor(model)).transform(X).shape == Z.shape


def test_values_end_with_their_callables():
    known = ByCallable()
    builder = Builder(3)
    known[builder], known[builder.build] = 1, 2
    assert (known[builder], known[builder.build], len(known)) == (1, 2, 2)
    assert Builder(3) not in known
    del builder
    gc.collect()
    assert len(known) == 0


def test_of_what_takes_no_weak_references_the_last_are_kept():
    known = ByCallable()
    many = [Slotted() for _ in range(10)]
    for number, one in enumerate(many):
        known[one] = number
    assert [one in known for one in many] == [False] * 2 + [True] * 8
