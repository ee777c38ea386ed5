import collections
import copy
import functools
import gc
import threading
import types
import weakref

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge._replica import _kept_replicas, replica
from tests.tiny_models import mlp

X = np.arange(12, dtype=np.float32).reshape(3, 4) / 10


@pytest.fixture
def lent(monkeypatch):
    """Note for each kept replica that was taken whether it could be lent anew."""
    noted = []
    lend = _kept_replicas.KeptReplica.lend

    def noting(kept):
        noted.append(lend(kept))
        return noted[-1]

    monkeypatch.setattr(_kept_replicas.KeptReplica, "lend", noting)
    return noted


def cyclic():
    """A module that its parts, attributes and hooks lead back to."""
    module = mlp()
    module.first.parent = [module]
    module.trainer = types.SimpleNamespace(model=module, lock=threading.Lock())
    module.holder = collections.UserDict(model=module)
    return module


def hooked():
    module = mlp()
    module.first.register_forward_hook(lambda *_: None)
    module.second.register_forward_hook(types.MethodType(lambda *_: None, module))
    return module


def of_a_class_that_knows_it():
    class Known(nn.Linear):
        def forward(self, x):
            return super().forward(x) + (0 if known is None else 1)

    known = None
    known = Known(4, 2)
    return known


@pytest.mark.parametrize("make", [mlp, cyclic, hooked, of_a_class_that_knows_it])
def test_a_module_ends_with_its_last_user(make):
    module = make()
    extractor = TorchFeatureExtractor(module)
    for _ in range(3):
        extractor.transform(X)
    ended = weakref.ref(module)
    gc.collect()
    n_kept = len(_kept_replicas._KEPT.of_module)
    del module, extractor
    gc.collect()
    assert ended() is None
    assert len(_kept_replicas._KEPT.of_module) <= n_kept


def test_weights_that_were_replaced_are_not_held():
    module = mlp()
    extractor = TorchFeatureExtractor(module)
    for _ in range(2):
        extractor.transform(X)
    part, memory = weakref.ref(module.first), module.second.weight.untyped_storage()
    module.first = nn.Linear(4, 8)
    module.second.weight.data = torch.ones_like(module.second.weight)
    gc.collect()
    assert part() is None
    assert torch._C._storage_Use_Count(memory._cdata) == 1


def test_copies_of_a_module_have_replicas_of_their_own(lent):
    module = mlp()
    extractor = TorchFeatureExtractor(module)
    before = {name: repr(value) for name, value in vars(module).items()}
    Z = extractor.transform(X)
    assert {name: repr(value) for name, value in vars(module).items()} == before
    other = copy.deepcopy(module)
    other.second.bias.data += 1
    np.testing.assert_allclose(TorchFeatureExtractor(other).transform(X), Z + 1, 1e-6)
    np.testing.assert_array_equal(extractor.transform(X), Z)
    assert lent == [True]


def test_a_call_within_a_forward_gets_a_replica_of_its_own():
    class Nested(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)
            self.depth = 0

        def forward(self, x):
            self.depth += 1
            if x.shape[0] > 1:
                return self.inner(torch.from_numpy(extractor.transform(x[:1].numpy())))
            return x * self.depth

    module = Nested()
    extractor = TorchFeatureExtractor(module, pooling=None)
    with pytest.raises(ValueError, match=r"results|rows"):
        extractor.transform(X)
    for _ in range(3):
        np.testing.assert_array_equal(extractor.transform(X[:1]), X[:1])
    assert module.depth == 0


def test_what_a_class_remembers_of_its_instances_is_not_kept():
    """The replica would be the instance that it knows from before."""

    class Remembering(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4))

        @functools.cache  # noqa: B019 - that is the point
        def total(self):
            return self.weight.sum()

        def forward(self, x):
            return x * self.total()

    module = Remembering()
    extractor = TorchFeatureExtractor(module)
    for total in (4, 8):
        module.weight.data.fill_(total / 4)
        np.testing.assert_array_equal(extractor.transform(X), X * total)


def test_threads_keep_replicas_of_their_own():
    module, found = mlp(), []

    def run():
        for _ in range(2):
            with replica(module, "cpu") as (own, *_):
                found.append(own)

    run()
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    first, second, third, fourth = found
    assert first is second is not third is fourth


def test_a_replica_is_not_kept_after_an_error():
    module = mlp()
    with pytest.raises(ZeroDivisionError), replica(module, "cpu"):
        raise ZeroDivisionError
    assert not any(key[0] == id(module) for key in _kept_replicas._KEPT.of_module)


def test_a_replica_that_is_held_on_to_is_another_one():
    module = mlp()
    with replica(module, "cpu", is_kept=False) as (first, *_):
        pass
    with replica(module, "cpu") as (second, *_):
        assert first is not second
        assert first.first.weight.shape == second.first.weight.shape


def test_what_holds_nothing_may_lie_deep(lent):
    module = mlp()
    module.state = types.SimpleNamespace(names=set(), table={"a": [set()]})
    extractor = TorchFeatureExtractor(module)
    for _ in range(2):
        extractor.transform(X)
    module.state.table["a"][0].add(1)
    extractor.transform(X)
    assert lent == [True, False]


def test_a_module_with_a_large_object_that_has_tensors_runs():
    module = mlp()
    module.table = {"tensor": torch.ones(3), "many": [1] * 10_000}
    extractor = TorchFeatureExtractor(module)
    Z = extractor.transform(X)
    np.testing.assert_array_equal(extractor.transform(X), Z)


def test_arrays_that_are_written_to_between_calls_are_read_anew():
    class Shifting(nn.Module):
        def __init__(self):
            super().__init__()
            self.shifts = {"all": [np.zeros(4, np.float32)]}

        def forward(self, x):
            return x + torch.from_numpy(self.shifts["all"][0])

    module = Shifting()
    extractor = TorchFeatureExtractor(module).fit(X)
    extractor.transform(X)
    module.shifts["all"][0] += 1
    np.testing.assert_array_equal(extractor.transform(X), X + 1)
