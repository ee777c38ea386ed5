"""What a forward writes to by itself is no part of what it computes."""

from collections import Counter as Counts
from collections import deque

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge._digest import digest
from sklearn_torch_bridge._digest._side_effects import changed_names
from sklearn_torch_bridge._known import fingerprint_module
from tests.tiny_models import Counting, Returning

CALLS, SEEN, TOTALS = [], {}, Counts()
RECENT = deque(maxlen=3)
count = 0
SCALES = [2.0]


class Appending(nn.Module):
    def forward(self, x):
        CALLS.append(len(x))
        return x


class Storing(nn.Module):
    def forward(self, x):
        SEEN[len(x)] = True
        TOTALS["rows"] += len(x)
        return x


class Rebinding(nn.Module):
    def forward(self, x):
        global count  # noqa: PLW0603 - what is tested
        count += 1
        return x


class OfItsClass(nn.Module):
    calls = 0

    def forward(self, x):
        OfItsClass.calls += 1
        RECENT.append(1)
        return x


def in_a_closure():
    sizes, n_calls = [], 0

    def forward(x):
        nonlocal n_calls
        n_calls += 1
        sizes.append(len(x))
        return x * 2

    return Returning(forward)


@pytest.mark.parametrize(
    "make",
    [Appending, Storing, Rebinding, OfItsClass, in_a_closure, Counting],
    ids=lambda make: make.__name__,
)
def test_counting_does_not_make_another_model(make):
    module = make()
    before = fingerprint_module(module)
    for _ in range(3):
        module(torch.ones(2, 3))
    assert fingerprint_module(module) == before


def deletes():
    global count  # noqa: PLW0603 - what is tested
    del count


def takes_one_of_two():
    SEEN[0], SEEN[1] = SEEN[1], SEEN[0]


def stores_twice(x):
    first = SEEN[x] = len(x)
    return first


def sets_an_attribute_inside(x):
    SEEN[x].size = 1


def augments_inside(x):
    SEEN[x][0] += 1


def augments_an_attribute(x):
    OfItsClass.calls += len(x)


def names_it_first(x):
    if (seen := SEEN).update(x):
        return seen
    return None


def writes_to_its_own(x):
    x.append(1)
    mine = [x]
    mine[0] = 2


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: CALLS.insert(0, x), {("CALLS",)}),
        (lambda x: SEEN.update(a=x, b=[x, x]), {("SEEN",)}),
        (lambda x: SEEN[x].append(x), {("SEEN",)}),
        (lambda x: SEEN[x][0].append(x), {("SEEN",)}),
        (lambda x: OfItsClass.calls.append(x + 1), {("OfItsClass", "calls")}),
        (lambda x: [CALLS.append(one) for one in x], {("CALLS",)}),
        (lambda x: lambda y: CALLS.append(x + y), {("CALLS",)}),
        (deletes, {("count",)}),
        (takes_one_of_two, {("SEEN",)}),
        (stores_twice, {("SEEN",)}),
        (sets_an_attribute_inside, {("SEEN", "size")}),
        (augments_inside, {("SEEN",)}),
        (augments_an_attribute, {("OfItsClass", "calls")}),
        (names_it_first, {("SEEN",)}),
        (writes_to_its_own, set()),
        (lambda x: SEEN[x], set()),
        (lambda x: dict(SEEN).update(x), set()),
        (lambda x: (SEEN | x).update(x), set()),
        (lambda x: lambda CALLS: CALLS.append(x), set()),
    ],
    ids=[
        *("method", "keywords", "inside", "deep inside", "attribute", "each"),
        *("later", "deleted", "swapped", "chained", "attribute inside"),
        *("augmented", "counter", "walrus", "own", "read", "copy", "union", "inner"),
    ],
)
def test_what_code_writes_to_is_found(function, expected):
    assert changed_names(function.__code__) == expected


MUTATORS = [
    *("append", "appendleft", "extend", "extendleft", "insert", "add", "update"),
    *("setdefault", "clear", "pop", "popleft", "popitem", "remove", "discard"),
    *("__setitem__", "put", "put_nowait"),
]


@pytest.mark.parametrize("name", MUTATORS)
def test_methods_that_change_their_object_are_known(name):
    code = compile(f"LOG.{name}(1)", "", "eval")
    assert changed_names(code) == {("LOG",)}


class Scaled(nn.Module):
    def forward(self, x):
        CALLS.append(len(x))
        return x * SCALES[0]


def test_what_is_only_read_still_counts():
    module = Scaled()
    before = fingerprint_module(module)
    SCALES[0] = 3.0
    try:
        assert fingerprint_module(module) != before
    finally:
        SCALES[0] = 2.0


class Scaling:
    """Callable, and with a setter: what `__call__` only reads decides."""

    def __init__(self, factor):
        self.factor = factor
        self.n_calls = 0

    def set_factor(self, factor):
        self.factor = factor

    def __call__(self, rows):
        self.n_calls += 1
        return torch.tensor(np.asarray(rows)) * self.factor


def test_settings_of_a_callable_count_and_its_counter_does_not():
    scaling = Scaling(2)
    before = digest(scaling, name="`preprocess`")
    scaling([[1.0]])
    assert digest(scaling, name="`preprocess`") == before
    scaling.set_factor(3)
    assert digest(scaling, name="`preprocess`") != before


def test_a_local_of_the_same_name_hides_nothing():
    scale = [1.0]

    def forward(x):
        CALLS = []
        CALLS.append(scale[0])
        return x * CALLS[0]

    module = Returning(forward)
    before = fingerprint_module(module)
    scale[0] = 2.0
    assert fingerprint_module(module) != before


def test_rows_of_a_counting_preprocess_are_found_again(cache):
    calls = []

    def preprocess(rows):
        calls.append(len(rows))
        return torch.tensor(np.asarray(rows))

    extractor = TorchFeatureExtractor(nn.ReLU(), preprocess=preprocess, cache=cache)
    X = np.arange(12.0).reshape(6, 2)
    for _ in range(2):
        np.testing.assert_array_equal(extractor.transform(X), X)
    assert calls == [6]
