"""What code reads and writes outside itself carries something from row to row."""

import functools
import types
from collections import deque

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import FingerprintError, TorchFeatureExtractor
from sklearn_torch_bridge._digest import digest

STATE, SEEN = {"scale": 1.0, "n": 0}, set()
ARRAY, BUFFER, QUEUE = np.ones(2), torch.ones(2), deque([1.0])
SPACE = types.SimpleNamespace(scale=1.0, n=0)
scale = 1.0
VALUES = {}


def as_tensor(rows):
    return torch.tensor(np.asarray(rows), dtype=torch.float32)


def of_a_dict(rows):
    STATE["n"] += 1
    return as_tensor(rows) * STATE["scale"]


def of_a_set(rows):
    SEEN.add(len(rows))
    return as_tensor(rows) * len(SEEN)


def of_an_array(rows):
    ARRAY[1] += 1
    return as_tensor(rows) * ARRAY[1]


def of_a_tensor(rows):
    BUFFER.add_(1)
    return as_tensor(rows) * BUFFER[0]


def of_a_queue(rows):
    QUEUE.append(1.0)
    return as_tensor(rows) * len(QUEUE)


def of_a_global(rows):
    global scale  # noqa: PLW0603 - what is tested
    scale += 1
    return as_tensor(rows) * scale


def of_a_namespace(rows):
    SPACE.n += 1
    return as_tensor(rows) * SPACE.n


def of_a_default(rows, state={"n": 0}):  # noqa: B006 - what is tested
    state["n"] += 1
    return as_tensor(rows) * state["n"]


def of_a_keyword(rows, *, state={"n": 0}):  # noqa: B006 - what is tested
    state["n"] += 1
    return as_tensor(rows) * state["n"]


def of_itself(rows):
    of_itself.n += 1
    return as_tensor(rows) * of_itself.n


of_itself.n = 0


def of_a_memo(rows):
    if len(rows) not in VALUES:
        VALUES[len(rows)] = float(len(rows))
    return as_tensor(rows) * VALUES[len(rows)]


def of_a_closure():
    state = {"n": 0}

    def closed(rows):
        state["n"] += 1
        return as_tensor(rows) * state["n"]

    return closed


def of_a_nonlocal():
    n = 0

    def closed(rows):
        nonlocal n
        n += 1
        return as_tensor(rows) * n

    return closed


class Vocabulary:
    def __init__(self):
        self.numbers = {}

    def number(self, word):
        return self.numbers.setdefault(word, len(self.numbers))

    def prepare(self, rows):
        return as_tensor([[self.number(float(one)) for one in row] for row in rows])

    __call__ = prepare


class OfItsClass:
    n = 0

    def __call__(self, rows):
        OfItsClass.n += 1
        return as_tensor(rows) * OfItsClass.n


WORDS = Vocabulary()


def of_an_object(rows):
    return as_tensor([[WORDS.number(float(one)) for one in row] for row in rows])


CARRYING = {
    "dict": of_a_dict,
    "set": of_a_set,
    "array": of_an_array,
    "tensor": of_a_tensor,
    "queue": of_a_queue,
    "global": of_a_global,
    "namespace": of_a_namespace,
    "default": of_a_default,
    "keyword": of_a_keyword,
    "attribute of a function": of_itself,
    "memo": of_a_memo,
    "closure": of_a_closure(),
    "nonlocal": of_a_nonlocal(),
    "callable object": Vocabulary(),
    "method": Vocabulary().prepare,
    "class": OfItsClass(),
    "object": of_an_object,
}


@pytest.mark.parametrize("preprocess", CARRYING.values(), ids=CARRYING)
def test_state_carried_from_row_to_row_asks_for_a_key(preprocess, cache, tmp_path):
    X = np.arange(1.0, 7.0).reshape(3, 2)
    extractor = TorchFeatureExtractor(nn.ReLU(), preprocess=preprocess, cache=cache)
    pattern = "`preprocess` cannot be .* is read and written by .*Give `cache_key`"
    for run in (
        lambda: extractor.transform(X),
        lambda: extractor.transform_to_file(X, tmp_path / "Z.npy"),
    ):
        with pytest.raises(FingerprintError, match=pattern):
            run()
    assert len(cache) == 0
    extractor.set_params(cache_key="mine")
    np.testing.assert_array_equal(extractor.transform(X), extractor.transform(X))
    assert len(cache) == len(X)


@pytest.mark.parametrize(
    "parameter", ["model", "pooling"], ids=["a model", "a pooling"]
)
def test_state_is_carried_by_whatever_runs(parameter, cache):
    state = {"scale": 1.0, "n": 0}

    def computes(x, *_):
        state["n"] += 1
        return x * state["scale"]

    class Model(nn.Module):
        def forward(self, x):
            return computes(x)

    given = {"model": Model()} if parameter == "model" else {"pooling": computes}
    extractor = TorchFeatureExtractor(**{"model": nn.ReLU(), "cache": cache} | given)
    with pytest.raises(FingerprintError, match=f"`{parameter}` cannot be"):
        extractor.transform(np.ones((3, 2)))


@functools.lru_cache
def remembered(n):
    return float(n) + scale


def uses_what_is_remembered(rows):
    return as_tensor(rows) * remembered(2)


def test_a_memo_of_the_standard_library_is_none_of_the_rows_business(monkeypatch):
    before = digest(uses_what_is_remembered)
    uses_what_is_remembered([[1.0]])
    assert digest(uses_what_is_remembered) == before
    monkeypatch.setitem(globals(), "scale", 7.0)
    assert digest(uses_what_is_remembered) != before


class Methods:
    @staticmethod
    def add(x, y):
        return x + y


def test_a_function_called_add_is_code_and_no_container():
    def adds(x):
        Methods.add(x, 1)
        return np.add(x, 1)

    before = digest(adds)
    original = Methods.__dict__["add"]
    Methods.add = staticmethod(lambda x, y: x - y)
    try:
        assert digest(adds) != before
    finally:
        Methods.add = original
