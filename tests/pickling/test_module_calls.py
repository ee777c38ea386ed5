"""A bound method of a module, or a partial, is run as a forward."""

import copy
import functools
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from sklearn_torch_bridge import (
    TorchFeatureExtractor,
    layer_table,
    share,
)
from sklearn_torch_bridge._pickling._module_calls import (
    ModuleCall,
    is_module_call,
    owner_of,
)
from sklearn_torch_bridge.inspection import batch_sensitivity


class Towers(nn.Module):
    """Has several ways to be run; `predict` runs the forward itself."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(4, 3)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(3, 2)

    def forward(self, x, scale=1.0):
        return self.head(self.body(x)) * scale

    def encode(self, x, *, twice=False):
        return self.drop(self.body(x)) * (2 if twice else 1)

    def predict(self, x):
        return self(x).softmax(-1)


CALLS = {
    "method": lambda net: net.encode,
    "calls the forward": lambda net: net.predict,
    "the forward": lambda net: net.forward,
    "partial of a method": lambda net: functools.partial(net.encode, twice=True),
    "partial of a partial": lambda net: functools.partial(
        functools.partial(net.encode), twice=True
    ),
    "partial of a module": lambda net: functools.partial(net, scale=3.0),
}


@pytest.fixture(params=CALLS)
def call(request):
    return CALLS[request.param](Towers())


@pytest.fixture
def X(rng):
    return rng.normal(size=(5, 4)).astype(np.float32)


def by_hand(call, X):
    owner = owner_of(call).eval()
    with torch.inference_mode():
        Z = call(torch.from_numpy(X)).numpy()
    owner.train()
    return Z


def test_it_gives_what_the_call_gives(call, X, cache):
    expected = by_hand(call, X)
    for options in ({}, {"cache": cache}, {"cache": cache}, {"batch_size": 2}):
        extractor = TorchFeatureExtractor(call, **options)
        np.testing.assert_allclose(extractor.fit_transform(X), expected, rtol=1e-5)
    assert all(part.training for part in owner_of(call).modules())


def test_two_calls_of_one_module_are_two_models_for_a_cache(X, cache):
    net = Towers()
    for make in CALLS.values():
        Z = TorchFeatureExtractor(make(net), cache=cache).transform(X)
        np.testing.assert_allclose(Z, by_hand(make(net), X), rtol=1e-5)
    with torch.no_grad():
        net.body.weight.mul_(2)
    Z = TorchFeatureExtractor(net.encode, cache=cache).transform(X)
    np.testing.assert_allclose(Z, by_hand(net.encode, X), rtol=1e-5)


def test_layers_have_the_names_of_the_module(call, X):
    owner = owner_of(call)
    assert layer_table(call, X).names == layer_table(owner).names
    Z = TorchFeatureExtractor(call, layer="body").transform(X)
    expected = TorchFeatureExtractor(owner, layer="body").transform(X)
    np.testing.assert_array_equal(Z, expected)


COPIES = {
    "clone": clone,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda one: pickle.loads(pickle.dumps(one)),  # noqa: S301 - made here
}


@pytest.mark.parametrize("make", COPIES)
def test_copies_give_the_same(call, X, make):
    extractor = TorchFeatureExtractor(call).fit(X)
    copied = COPIES[make](extractor)
    np.testing.assert_array_equal(copied.transform(X), extractor.transform(X))
    shares = owner_of(copied.model) is owner_of(call)
    assert shares == (make in ("clone", "copy"))


def test_an_extractor_that_runs_a_method_is_saved_and_loaded(call, X, tmp_path):
    extractor = TorchFeatureExtractor(call).fit(X)
    extractor.save(tmp_path / "saved")
    other = copy.deepcopy(call)
    with torch.no_grad():
        for weight in owner_of(other).parameters():
            weight.zero_()
    for given in (other, lambda: copy.deepcopy(other)):
        loaded = TorchFeatureExtractor.load(tmp_path / "saved", given)
        np.testing.assert_array_equal(loaded.transform(X), extractor.transform(X))
        assert is_module_call(loaded.model)
    assert not owner_of(other).body.weight.any()


def test_a_handle_on_a_method(call, X):
    handle = share(call)
    assert copy.deepcopy(handle) == handle == share(call)
    Z = TorchFeatureExtractor(handle).transform(X)
    np.testing.assert_allclose(Z, by_hand(call, X), rtol=1e-5)
    sent = pickle.loads(pickle.dumps(handle))  # noqa: S301 - made above
    np.testing.assert_array_equal(TorchFeatureExtractor(sent).transform(X), Z)
    assert "with 23 parameters" in repr(handle)


def test_a_callable_may_return_a_method(X):
    net = Towers()
    Z = TorchFeatureExtractor(lambda: net.encode).transform(X)
    np.testing.assert_allclose(Z, by_hand(net.encode, X), rtol=1e-5)


@pytest.mark.parametrize(
    "other",
    [
        lambda net: net,
        lambda net: net.forward,
        lambda net: functools.partial(net.encode, twice=True),
    ],
    ids=["module", "another method", "partial"],
)
def test_another_call_of_the_module_is_not_loaded(other, X, tmp_path):
    """It has the same weights, and would give other vectors in silence."""
    TorchFeatureExtractor(Towers().encode).fit(X).save(tmp_path / "saved")
    with pytest.raises(ValueError, match="`model` must be its method or partial 'enc"):
        TorchFeatureExtractor.load(tmp_path / "saved", other(Towers()))


def test_arguments_have_the_names_of_the_method(X):
    extractor = TorchFeatureExtractor(Towers().encode)
    Z = extractor.transform({"x": X})
    np.testing.assert_array_equal(Z, extractor.transform(X))
    with pytest.raises(ValueError, match="column 'y', and `model` takes 'x', 'twice'"):
        extractor.transform({"y": X})
    partial = TorchFeatureExtractor(functools.partial(Towers(), scale=2.0))
    with pytest.raises(ValueError, match="column 'y', and `model` takes 'x', 'scale'"):
        partial.transform({"y": X})


def test_what_is_no_call_of_a_module_is_none():
    net = nn.ReLU()
    for value in (net, nn.ReLU, len, "hf:x", None, functools.partial(nn.Linear, 2)):
        assert not is_module_call(value)
    assert owner_of(net.forward) is net


def test_one_method_is_one_module_as_long_as_it_is_used(X):
    """So that what is remembered of a model is found again."""
    from sklearn_torch_bridge.models import load_model

    method = Towers().encode
    module = load_model(method).module
    assert isinstance(module, ModuleCall)
    assert load_model(method).module is module
    assert batch_sensitivity(TorchFeatureExtractor(method), X) is not None
