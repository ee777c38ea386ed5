"""An extractor sees every edit of its module, though it keeps a replica of it."""

import collections
import random
import types

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge._replica import _kept_replicas

X = np.arange(12, dtype=np.float32).reshape(3, 4) / 10


class Scale(nn.Module):
    """A part that is another one after `__class__` was assigned."""

    def __init__(self, by=1.0):
        super().__init__()
        self.by = by

    def forward(self, x):
        return x * self.by


class Shift(Scale):
    def forward(self, x):
        return x + self.by


class Twice(nn.Module):
    def forward(self, weight):
        return weight * 2


class Edited(nn.Module):
    """Uses all that an edit may touch; every value has an influence."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.parts = nn.ModuleList([Scale(1.5)])
        self.register_buffer("small", torch.ones(4))
        self.register_buffer("large", torch.ones(20_000))
        self.factor = 1.0
        self.is_on = False
        self.numbers = [1.0]
        self.table = {"a": {"b": 1.0}}
        self.recent = collections.deque([1.0], maxlen=3)
        self.names = {"x"}
        self.state = types.SimpleNamespace(value=1.0, inner=[1.0])
        self.pair = (torch.ones(4), [1.0])
        self.plain = torch.ones(4)
        self.hidden = [Scale(2.0)]
        self.act = torch.tanh

    def forward(self, x):
        x = self.norm(self.first(x)) * self.small * self.large[:4]
        for part in (*self.parts, *self.hidden):
            x = part(x)
        x = x * self.factor + sum(self.numbers) + self.table["a"]["b"]
        x = x + len(self.table) + sum(self.recent) + len(self.names)
        x = x * self.pair[0] + sum(self.pair[1]) + self.plain
        x = x + self.state.value + sum(self.state.inner)
        x = x + getattr(self.first.weight, "extra", 0.0) + getattr(self, "more", 0.0)
        return self.act(x / 100) + float(self.is_on) + len(self._buffers)


def value(rng):
    return rng.uniform(0.5, 2.0)


def values(rng, *shape):
    return torch.tensor(
        np.random.default_rng(rng.getrandbits(32)).random(shape)
    ).float()


def edit_class(module, rng):
    module.parts[0].__class__ = rng.choice([Scale, Shift])


def edit_forward(module, _):
    if "forward" in vars(module):
        del module.forward
    else:
        module.forward = types.MethodType(lambda self, x: x + 1, module)


def edit_hook(module, rng):
    if module.first._forward_hooks:
        module.first._forward_hooks.clear()
    else:
        by = value(rng)
        module.first.register_forward_hook(lambda *given: given[2] * by)


def edit_parametrization(module, _):
    if parametrize.is_parametrized(module.first):
        parametrize.remove_parametrizations(module.first, "weight")
    else:
        parametrize.register_parametrization(module.first, "weight", Twice())


def edit_part(module, rng):
    module.parts[0] = Scale(value(rng))


def edit_parts(module, rng):
    if len(module.parts) > 1:
        del module.parts[1]
    else:
        module.parts.append(Scale(value(rng)))


def edit_storage(module, rng):
    """The same tensor, in other memory of another length."""
    memory = torch.ones(20_000 + rng.randrange(9))
    memory[:4] = values(rng, 4)
    module.large.set_(memory)


def edit_extra(module, rng):
    weight = next(module.first.parameters())
    if vars(weight):
        del weight.extra
    else:
        weight.extra = value(rng)


def edit_more(module, rng):
    if hasattr(module, "more"):
        del module.more
    else:
        module.more = value(rng)


def edit_buffers(module, _):
    if "another" in module._buffers:
        del module.another
    else:
        module.register_buffer("another", torch.ones(1))


def edit_dtype(module, rng):
    module.double().float()
    module.norm.running_mean.data = values(rng, 4)


EDITS = {
    "weight in place": lambda m, rng: m.first.bias.data.add_(value(rng)),
    "data": lambda m, rng: setattr(m.first.bias, "data", values(rng, 4)),
    "data turned": lambda m, rng: setattr(m.norm.weight, "data", values(rng, 8)[::2]),
    "parameter": lambda m, rng: setattr(m.first, "bias", nn.Parameter(values(rng, 4))),
    "part": edit_part,
    "parts": edit_parts,
    "part in a list": lambda m, rng: m.hidden.__setitem__(0, Scale(value(rng))),
    "flag of it": lambda m, rng: setattr(m.hidden[0], "by", value(rng)),
    "float": lambda m, rng: setattr(m, "factor", value(rng)),
    "flag": lambda m, rng: setattr(m, "is_on", rng.choice([True, False])),
    "list": lambda m, rng: m.numbers.__setitem__(slice(1), [value(rng)]),
    "longer list": lambda m, rng: setattr(
        m, "numbers", [value(rng)] * rng.randrange(3)
    ),
    "nested dict": lambda m, rng: m.table["a"].update(b=value(rng)),
    "dict": lambda m, rng: m.table.update({rng.choice("xyz"): 1}),
    "deque": lambda m, rng: m.recent.append(value(rng)),
    "set": lambda m, rng: m.names.symmetric_difference_update(rng.choice("abc")),
    "object": lambda m, rng: setattr(m.state, "value", value(rng)),
    "list of an object": lambda m, rng: m.state.inner.append(value(rng)),
    "tensor of a tuple": lambda m, rng: m.pair[0].mul_(value(rng)),
    "list of a tuple": lambda m, rng: m.pair[1].append(value(rng)),
    "plain tensor": lambda m, rng: m.plain.data.copy_(values(rng, 4)),
    "another tensor": lambda m, rng: setattr(m, "plain", values(rng, 4)),
    "small buffer": lambda m, rng: m.small.data.mul_(value(rng)),
    "by its memory": lambda m, rng: m.small.numpy().fill(value(rng)),
    "large buffer": lambda m, rng: m.large.data[:4].fill_(value(rng)),
    "buffer": lambda m, rng: setattr(m, "large", values(rng, 20_000)),
    "buffers": edit_buffers,
    "storage": edit_storage,
    "training": lambda m, rng: m.train(not m.training),
    "gradients": lambda m, rng: m.requires_grad_(rng.choice([True, False])),
    "function": lambda m, rng: setattr(m, "act", rng.choice([torch.tanh, torch.sin])),
    "class": edit_class,
    "forward": edit_forward,
    "hook": edit_hook,
    "parametrization": edit_parametrization,
    "attribute of a weight": edit_extra,
    "attribute": edit_more,
    "dtype": edit_dtype,
}
"""Each changes a module in one way."""


def plain(module):
    """Run a module by itself, in eval mode."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    with torch.inference_mode():
        Z = module(torch.from_numpy(X)).numpy()
    for part, mode in modes:
        part.training = mode
    return Z


def check_edits(n_edits, seed):
    """Edit a module again and again; what its extractor gives is as without."""
    rng, module = random.Random(seed), Edited()  # noqa: S311 - edits, no secrets
    extractor = TorchFeatureExtractor(module)
    for _ in range(n_edits):
        name = rng.choice([*EDITS])
        EDITS[name](module, rng)
        Z = extractor.transform(X)
        expected = plain(module)
        for found in (Z, extractor.transform(X)):  # memory may lie in another way
            np.testing.assert_allclose(found, expected, rtol=1e-5, err_msg=name)


N_EDITS = 150


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


def test_every_edit_is_seen(lent):
    check_edits(N_EDITS, seed=0)
    assert N_EDITS / 5 < sum(lent) < len(lent)


@pytest.mark.slow
def test_ten_thousand_edits_are_seen():
    for seed in range(1, 21):
        check_edits(500, seed)


VALUES_ALONE = {  # that no replica needs to be copied for
    *("weight in place", "data", "data turned", "gradients", "tensor of a tuple"),
    *("plain tensor", "small buffer", "by its memory", "large buffer", "storage"),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_is_seen(name, lent):
    rng, module = random.Random(0), Edited()  # noqa: S311 - edits, no secrets
    extractor = TorchFeatureExtractor(module)
    extractor.transform(X)
    for _ in range(2):
        EDITS[name](module, rng)
        expected = plain(module)
        np.testing.assert_allclose(extractor.transform(X), expected, rtol=1e-5)
    if name in VALUES_ALONE:
        assert lent == [True, True]
