"""What a forward leaves in a model has no influence on the next batch."""

import copy
import functools
import types
from collections import deque

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor

X = np.arange(24, dtype=np.float32).reshape(6, 4) / 10


class Leaving(nn.Module):
    """Adds what is left of earlier forwards to its output, then leaves more."""

    def __init__(self, leave, left):
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.n = 0
        self.hidden = None
        self.values = []
        self.table = {"a": []}
        self.recent = deque(maxlen=5)
        self.names = set()
        self.state = types.SimpleNamespace(n=0, inner=[])
        self.array = np.zeros(4, np.float32)
        self.pair = (1, [])
        self.leave = leave
        self.left = left

    def forward(self, x):
        Z = self.inner(x) + self.left(self)
        self.leave(self, x)
        return Z


def build_part(module, _):
    if not hasattr(module, "late"):
        module.late = nn.Identity()


def register(module, _):
    if "memory" in module._buffers:
        module.memory = module.memory + 1
    else:
        module.register_buffer("memory", torch.ones(()))


def replace_data(module, _):
    module.inner.bias.data = module.inner.bias.data + 1


def attribute_of_a_weight(module, _):
    module.inner.weight.seen = getattr(module.inner.weight, "seen", 0) + 1


STATES = {
    "number": (lambda m, x: setattr(m, "n", m.n + 1), lambda m: m.n),
    "hidden": (
        lambda m, x: setattr(m, "hidden", x.mean()),
        lambda m: 0 if m.hidden is None else m.hidden,
    ),
    "list": (lambda m, x: m.values.append(x.mean()), lambda m: sum(m.values)),
    "nested": (lambda m, x: m.table["a"].append(1), lambda m: len(m.table["a"])),
    "key": (lambda m, x: m.table.update({len(m.table): 1}), lambda m: len(m.table) - 1),
    "deque": (lambda m, x: m.recent.append(1), lambda m: sum(m.recent)),
    "set": (lambda m, x: m.names.add(len(m.names)), lambda m: len(m.names)),
    "object": (lambda m, x: setattr(m.state, "n", m.state.n + 1), lambda m: m.state.n),
    "in an object": (
        lambda m, x: m.state.inner.append(1),
        lambda m: len(m.state.inner),
    ),
    "array": (lambda m, x: m.array.__iadd__(1), lambda m: torch.from_numpy(m.array)),
    "in a tuple": (lambda m, x: m.pair[1].append(1), lambda m: len(m.pair[1])),
    "of a part": (
        lambda m, x: setattr(m.inner, "n", getattr(m.inner, "n", 0) + 1),
        lambda m: getattr(m.inner, "n", 0),
    ),
    "buffer": (register, lambda m: getattr(m, "memory", 0)),
    "part": (build_part, lambda m: int(hasattr(m, "late"))),
    "data": (replace_data, lambda m: 0),
    "attribute of a weight": (
        attribute_of_a_weight,
        lambda m: getattr(m.inner.weight, "seen", 0),
    ),
}
"""What a forward leaves, and what it takes of it."""


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("batch_size", [2, 1])
def test_each_batch_finds_the_model_as_the_user_has_it(name, batch_size):
    module = Leaving(*STATES[name])
    with torch.no_grad():
        expected = module.inner(torch.from_numpy(X)).numpy()
    before = repr({key: one for key, one in vars(module).items() if key[0] != "_"})
    extractor = TorchFeatureExtractor(module, batch_size=batch_size)
    for _ in range(2):
        Z = extractor.transform(X)
        np.testing.assert_allclose(Z, expected, rtol=1e-5, atol=1e-6)
    after = repr({key: one for key, one in vars(module).items() if key[0] != "_"})
    assert after == before


def test_what_the_user_left_in_the_model_is_what_each_batch_finds():
    module = Leaving(*STATES["list"])
    module.values.append(torch.tensor(7.0))
    with torch.no_grad():
        expected = module.inner(torch.from_numpy(X)).numpy() + 7
    extractor = TorchFeatureExtractor(module, batch_size=2)
    np.testing.assert_allclose(extractor.transform(X), expected, rtol=1e-5)
    module.values.clear()
    np.testing.assert_allclose(extractor.transform(X), expected - 7, rtol=1e-4)


class Positions(nn.Module):
    """Builds a table that grows with the longest row, and a property once."""

    def __init__(self):
        super().__init__()
        self.known = 0
        self.table = None

    @functools.cached_property
    def scale(self):
        return torch.tensor(2.0)

    def forward(self, x):
        if x.shape[1] > self.known:
            self.known = x.shape[1]
            self.table = torch.arange(self.known)
        return (x * self.scale + self.table[: x.shape[1]]).sum(1, keepdim=True)


def test_tables_that_are_built_when_needed_work():
    rows = [X[0, :2], X[1, :4], X[2, :3]] * 2
    expected = [[row.sum() * 2 + np.arange(len(row)).sum()] for row in rows]
    extractor = TorchFeatureExtractor(Positions(), batch_size=1)
    for _ in range(2):
        np.testing.assert_allclose(extractor.transform(rows), expected, rtol=1e-6)


def test_a_module_that_copies_itself_is_put_back_too():
    class Copying(Leaving):
        def __deepcopy__(self, memo):
            own = type(self)(self.leave, self.left)
            own.inner = copy.deepcopy(self.inner, memo)
            memo[id(self)] = own
            return own

    module = Copying(*STATES["number"])
    with torch.no_grad():
        expected = module.inner(torch.from_numpy(X)).numpy()
    Z = TorchFeatureExtractor(module, batch_size=2).transform(X)
    np.testing.assert_allclose(Z, expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["number", "list", "nested", "buffer"])
def test_a_module_that_cannot_be_copied_is_put_back_for_each_batch(name):
    module = Leaving(*STATES[name])
    module.inner.register_forward_hook(lambda *_: setattr(module, "hidden", 1))
    with torch.no_grad():
        expected = module.inner(torch.from_numpy(X)).numpy()
    Z = TorchFeatureExtractor(module, batch_size=2).transform(X)
    np.testing.assert_allclose(Z, expected, rtol=1e-5)
