"""Pickled, joblib-dumped and copied extractors are what they were."""

import copy
import pickle
import threading
import warnings
import weakref

import cloudpickle
import joblib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge._pickling import _segments
from tests.tiny_models import Returning, mlp
from tests.zoo import MODULES, addresses, assert_same, hook, modules, named


def there_and_back(obj, protocol=None):
    return pickle.loads(pickle.dumps(obj, protocol))  # noqa: S301 - our own bytes


def out_of_band(obj, _):
    """Buffers arrive read-only, as from Ray's store."""
    buffers = []
    data = pickle.dumps(obj, 5, buffer_callback=buffers.append)
    copies = [bytes(buffer) for buffer in buffers]
    return pickle.loads(data, buffers=copies)  # noqa: S301 - our own bytes


def cloudpickled(obj, _):
    return cloudpickle.loads(cloudpickle.dumps(obj))


def dumped(compress=0, mmap_mode=None):
    def route(obj, folder):
        path = folder / str(len(list(folder.iterdir())))  # others may be mapped still
        joblib.dump(obj, path, compress=compress)
        return joblib.load(path, mmap_mode=mmap_mode)

    return route


ROUTES = {
    "pickle 2": lambda obj, _: there_and_back(obj, 2),
    "pickle 5": lambda obj, _: there_and_back(obj, 5),
    "out of band": out_of_band,
    "cloudpickle": cloudpickled,
    "joblib": dumped(),
    "joblib compressed": dumped(compress=1),
    "joblib memory-mapped": dumped(mmap_mode="r"),
}


@pytest.fixture(params=ROUTES.values(), ids=ROUTES)
def route(request, tmp_path):
    def travel(obj):
        with warnings.catch_warnings(action="error"):
            return request.param(obj, tmp_path)

    return travel


def write_everywhere(module):
    """Write to all tensors; into a map for reading only, it would end the process."""
    for _, tensor in named(module):
        if tensor.numel():
            first = tensor.detach()[(0,) * tensor.ndim]
            first.copy_(torch.zeros((), dtype=torch.uint8))


@pytest.mark.parametrize("name", MODULES)
def test_a_stored_extractor_holds_the_same_module(route, name):
    torch.manual_seed(0)
    module = MODULES[name]()
    extractor = TorchFeatureExtractor(module, layer="x")
    found = route(extractor)
    assert found.get_params() | {"model": module} == extractor.get_params()
    assert_same(found.model, module)
    again = route(found).model  # from one arena, or from a map
    assert_same(again, module)
    write_everywhere(again)
    assert_same(found.model, module)


@pytest.mark.parametrize("name", MODULES)
def test_a_deep_copy_is_that_of_torch(name):
    torch.manual_seed(0)
    module = MODULES[name]()
    found = copy.deepcopy(TorchFeatureExtractor(module)).model
    assert_same(found, copy.deepcopy(module))
    assert not addresses(found) & addresses(module)


def test_a_deep_copy_keeps_what_belongs_together():
    module = mlp()
    pair = copy.deepcopy({"extractor": TorchFeatureExtractor(module), "own": module})
    assert pair["extractor"].model is pair["own"] is not module


def test_a_shallow_copy_shares_the_module():
    extractor = TorchFeatureExtractor(mlp(), preprocess=len)
    found = copy.copy(extractor)
    assert found.model is extractor.model
    assert found.get_params() == extractor.get_params()


def test_a_clone_shares_what_may_be_large():
    module, pool = mlp(), nn.Linear(3, 3)
    extractor = TorchFeatureExtractor(module, preprocess=hook, pooling=pool)
    found = clone(extractor)
    assert (found.model, found.preprocess, found.pooling) == (module, hook, pool)


def unregistered():
    tensor = torch.ones(3)
    module = nn.Linear(3, 2)
    module.cache = [tensor, {"a": tensor, "b": (tensor[1:],)}]
    module.graph = nn.Parameter(torch.ones(2)) * 2
    module.conjugate = torch.tensor([1 + 2j]).conj()
    module.coo = torch.eye(3).to_sparse()
    module.meta = torch.empty(3, device="meta")
    module.array = np.arange(3)
    module.bias.loop = module.bias.holder = {"module": module, "tensor": tensor}
    return module


def test_tensors_that_are_not_registered_come_along(route):
    module = unregistered()
    found = route(TorchFeatureExtractor(module)).model
    assert found.cache[0] is found.cache[1]["a"] is found.bias.holder["tensor"]
    assert found.bias.loop["module"] is found
    found.cache[0].fill_(5)
    assert found.cache[1]["b"][0].tolist() == [5, 5]
    assert module.cache[0].tolist() == [1, 1, 1]
    assert found.graph.is_leaf
    assert found.graph.tolist() == [2, 2]
    assert found.conjugate.is_conj()
    assert found.conjugate.tolist() == [1 - 2j]
    assert found.coo.to_dense().equal(torch.eye(3))
    assert found.meta.is_meta
    assert found.array.tolist() == [0, 1, 2]


def test_an_lstm_computes_with_its_own_weights(route):
    module = MODULES["lstm"]()
    found = route(TorchFeatureExtractor(module)).model
    X = torch.ones(2, 5, 3)
    torch.testing.assert_close(found(X), module(X))
    assert found._flat_weights[0] is found.weight_ih_l0
    found.weight_ih_l0.data.zero_()
    assert not torch.equal(found(X)[0], module(X)[0])


def weight_norm_of_old():
    with pytest.warns(FutureWarning, match="weight_norm"):
        return nn.utils.weight_norm(nn.Linear(4, 3))


KINDS = {
    "traced": lambda: torch.fx.symbolic_trace(mlp()),
    "compiled": lambda: torch.compile(mlp(), backend="eager"),
    "weight norm of old": weight_norm_of_old,
    "with a lambda": lambda: Returning(lambda x: x.flip(1)),
    "of a local class": lambda: local_class()(4, 3),
}


def local_class():
    class Twice(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    return Twice


@pytest.mark.parametrize("kind", KINDS)
def test_special_modules_compute_the_same(route, kind):
    module = KINDS[kind]()
    found = route(TorchFeatureExtractor(module)).model
    X = torch.linspace(0, 1, 8).view(2, 4)
    assert type(found) is type(module) or kind == "traced"
    torch.testing.assert_close(found(X), module(X))


def test_a_lazy_module_stays_lazy(route):
    found = route(TorchFeatureExtractor(nn.LazyLinear(3))).model
    assert found(torch.ones(2, 5)).shape == (2, 3)


def test_two_extractors_of_one_module_still_share_it(route):
    module = mlp()
    pair = [TorchFeatureExtractor(module), TorchFeatureExtractor(module, layer="act")]
    first, second = route(pair)
    assert first.model is second.model


def scripted():
    return torch.jit.script(mlp())


def with_a_lock():
    module = mlp()
    module.lock = threading.Lock()
    return module


UNPICKLABLE = [scripted, with_a_lock]


@pytest.mark.filterwarnings(
    # torch.jit is deprecated, and its users are still ours.
    "ignore:.*torch.jit"
)
@pytest.mark.parametrize("make", UNPICKLABLE)
def test_what_cannot_be_pickled_names_the_way_out(make, tmp_path):
    extractor = TorchFeatureExtractor(make())
    expected = "must be picklable, and .* is not: .*Give a callable that builds it"
    for dump in (pickle.dumps, cloudpickle.dumps, joblib.hash):
        with pytest.raises(pickle.PicklingError, match=expected):
            dump(extractor)
    with pytest.raises(pickle.PicklingError, match=expected):
        joblib.dump(extractor, tmp_path / "dump")
    factory = TorchFeatureExtractor(make)
    X = np.ones((2, 4), np.float32)
    found = there_and_back(factory.fit(X))
    assert found.transform(X).shape == (2, 3)


def test_a_freed_model_is_told(route):
    module = mlp()
    module.first.weight.untyped_storage().resize_(0)
    with pytest.raises(ValueError, match="it was freed or resized"):
        route(TorchFeatureExtractor(module))


def built_once():
    """Be a factory."""
    return mlp(n_in=1_000, n_out=1_000)


def test_no_weights_travel_with_strings_and_callables(minilm_path, texts):
    by_name = TorchFeatureExtractor(f"hf:{minilm_path}").fit(texts)
    by_call = TorchFeatureExtractor(built_once).fit(np.ones((1, 1_000)))
    assert len(pickle.dumps(by_name)) < 2_000
    assert len(pickle.dumps(by_call)) < 10_000  # the names of the columns


@given(module=modules(), large=st.sampled_from([0, 100, 1 << 20]))
def test_generated_modules_come_back(module, large):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_segments, "LARGE_BYTES", large)
        found = there_and_back(TorchFeatureExtractor(module)).model
        assert_same(found, module)
        again = there_and_back(TorchFeatureExtractor(found)).model
        assert_same(again, module)


def test_threads_pickle_one_module_at_once():
    module = MODULES["large"]()
    extractor = TorchFeatureExtractor(module)
    found = joblib.Parallel(n_jobs=8, backend="threading")(
        joblib.delayed(lambda: there_and_back(extractor).model)() for _ in range(32)
    )
    for model in found:
        assert_same(model, module)


def test_an_export_lives_no_longer_than_its_pickle():
    module = mlp()
    pickle.dumps(TorchFeatureExtractor(module))
    alive = weakref.ref(module)
    del module
    assert alive() is None


def test_the_hash_of_joblib_is_of_the_content():
    """So that `Pipeline(memory=...)` finds what it stored."""
    extractor = TorchFeatureExtractor(mlp())
    before = joblib.hash(extractor)
    assert joblib.hash(clone(extractor)) == before
    extractor.model.first.bias.data[0] += 1
    assert joblib.hash(extractor) != before
