"""Pickles of modules with parametrizations, and of generators."""

import copy
import io
import pickle

import cloudpickle
import joblib
import numpy as np
import pytest
import torch
from joblib import Parallel, delayed
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from sklearn_torch_bridge import TorchFeatureExtractor, share


class Symmetric(nn.Module):
    def forward(self, weight):
        return weight.triu() + weight.triu(1).transpose(-1, -2)


class Wide(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 2


def several():
    linear = parametrizations.weight_norm(nn.Linear(4, 4))
    parametrizations.spectral_norm(linear)
    parametrize.register_parametrization(linear, "bias", nn.Tanh())
    return linear


def shared():
    pair, symmetric = [nn.Linear(4, 4), nn.Linear(4, 4)], Symmetric()
    for linear in pair:
        parametrize.register_parametrization(linear, "weight", symmetric)
    return nn.Sequential(*pair)


def tied():
    linear = parametrizations.weight_norm(nn.Linear(4, 4))
    return nn.Sequential(linear, nn.ReLU(), linear)


KINDS = {
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(4, 4)),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(4, 4)),
    "orthogonal": lambda: parametrizations.orthogonal(nn.Linear(4, 4)),
    "of its own class": lambda: parametrizations.weight_norm(Wide(4, 4)),
    "several": several,
    "shared": shared,
    "tied": tied,
}


def transformed(extractor, X):
    return extractor.transform(X)


def by_joblib(extractor):
    file = io.BytesIO()
    joblib.dump(extractor, file)
    file.seek(0)
    return joblib.load(file)


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize(
    "route",
    [
        lambda one: pickle.loads(pickle.dumps(one)),  # noqa: S301 - our own bytes
        lambda one: cloudpickle.loads(cloudpickle.dumps(one)),
        copy.deepcopy,
        by_joblib,
    ],
    ids=["pickle", "cloudpickle", "deepcopy", "joblib"],
)
@pytest.mark.parametrize("wrap", [lambda one: one, share], ids=["module", "handle"])
def test_parametrizations_come_back(make, route, wrap, rng):
    module = make()
    module(torch.ones(2, 4)).sum().backward()
    X = rng.normal(size=(3, 4)).astype(np.float32)
    extractor = TorchFeatureExtractor(wrap(module))
    found = route(extractor)
    np.testing.assert_array_equal(found.transform(X), extractor.transform(X))
    other = found.model if wrap is not share else found.model.module
    assert list(other.state_dict()) == list(module.state_dict())
    pairs = zip(other.modules(), module.modules(), strict=True)
    for one, original in pairs:
        assert parametrize.is_parametrized(one) == parametrize.is_parametrized(original)
        assert type(one).__name__ == type(original).__name__


def test_a_parametrization_goes_on_to_compute_the_weight():
    module = parametrizations.weight_norm(nn.Linear(4, 4))
    found = pickle.loads(pickle.dumps(TorchFeatureExtractor(module))).model  # noqa: S301 - our own bytes
    before = found.weight.detach().clone()
    with torch.no_grad():
        found.parametrizations.weight.original0.mul_(2)
    torch.testing.assert_close(found.weight, 2 * before)
    parametrize.remove_parametrizations(found, "weight")
    assert type(found) is nn.Linear


@pytest.mark.slow
def test_workers_take_parametrizations(rng):
    X = rng.normal(size=(3, 4)).astype(np.float32)
    extractor = TorchFeatureExtractor(KINDS["weight norm"]())
    found = Parallel(n_jobs=2)(delayed(transformed)(extractor, X) for _ in range(2))
    for Z in found:
        np.testing.assert_array_equal(Z, extractor.transform(X))


def test_a_generator_goes_on_where_it_was():
    """Its state, unpickled from the memory of others, ended the process."""
    module = nn.Linear(4, 3)
    module.draws = torch.Generator().manual_seed(3)
    found = pickle.loads(pickle.dumps(TorchFeatureExtractor(module))).model  # noqa: S301 - our own bytes
    expected = torch.rand(3, generator=module.draws)
    assert torch.equal(torch.rand(3, generator=found.draws), expected)
