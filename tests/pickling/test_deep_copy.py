"""Deep copies of what holds tensors with a graph, and errors that name the part."""

import copy
import pickle
import threading

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn
from torch.nn.utils import prune, spectral_norm, weight_norm

from sklearn_torch_bridge import TorchFeatureExtractor

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")


class Remembering(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.last, self.all, self.by_name, self.pair = None, [], {}, ()

    def forward(self, x):
        self.last = y = self.linear(x)
        self.all.append(y)
        self.by_name["y"] = y
        self.pair = (y, [y * 2])
        return y


KINDS = {
    "old weight norm": lambda: weight_norm(nn.Linear(4, 4)),
    "old spectral norm": lambda: spectral_norm(nn.Linear(4, 4)),
    "pruned": lambda: prune.l1_unstructured(nn.Linear(4, 4), "weight", 0.3),
    "inside": lambda: nn.Sequential(nn.ReLU(), weight_norm(nn.Linear(4, 4))),
    "activations": Remembering,
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize(
    "route",
    [
        copy.deepcopy,
        copy.copy,
        clone,
        lambda one: clone(one, safe=False),
        lambda one: pickle.loads(pickle.dumps(one)),  # noqa: S301 - our own bytes
    ],
    ids=["deepcopy", "copy", "clone", "unsafe clone", "pickle"],
)
def test_tensors_with_a_graph_are_copied(make, route, rng):
    module = make()
    module(torch.ones(2, 4)).sum().backward()
    X = rng.normal(size=(3, 4)).astype(np.float32)
    extractor = TorchFeatureExtractor(module)
    np.testing.assert_array_equal(route(extractor).transform(X), extractor.transform(X))


def test_a_deep_copy_is_apart_from_the_original(rng):
    module = KINDS["old weight norm"]()
    module(torch.ones(2, 4))
    X = rng.normal(size=(3, 4)).astype(np.float32)
    extractor = TorchFeatureExtractor(module)
    copied, before = copy.deepcopy(extractor), extractor.transform(X)
    with torch.no_grad():
        copied.model.weight_g.mul_(2)
    np.testing.assert_array_equal(extractor.transform(X), before)
    assert np.abs(copied.transform(X) - before).max() > 1e-3


@pytest.mark.parametrize("dump", [copy.deepcopy, pickle.dumps])
def test_what_cannot_be_copied_is_named(dump):
    module = nn.Sequential(nn.ReLU(), nn.Linear(4, 3))
    module[1].guard = threading.Lock()
    with pytest.raises((TypeError, pickle.PicklingError), match=r"It is '1\.guard'"):
        dump(TorchFeatureExtractor(module))
