"""A module comes back bit for bit, whatever its forward writes to."""

import copy
import time
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor, layer_table, precompute
from sklearn_torch_bridge.inspection import batch_sensitivity

N_LARGE = 50_000


class Writing(nn.Module):
    """Writes as `write` says, then uses all that it may have written to."""

    def __init__(self, write):
        super().__init__()
        self.weight = nn.Parameter(torch.arange(1.0, 17).reshape(4, 4))
        self.tied = self.weight
        self.register_buffer("small", torch.ones(4))
        self.register_buffer("large", torch.ones(N_LARGE))
        self.register_buffer("part", self.large[2:6])
        self.plain = torch.ones(N_LARGE)
        self.kept = {"tensors": [torch.ones(4), torch.ones(N_LARGE)]}
        self.inner = [nn.Linear(4, 4)]
        self.write = write

    def forward(self, x):
        self.write(self, x)
        small, large = self.kept["tensors"]
        x = self.inner[0](x) @ self.tied + self.small * self.part
        return x + self.large[:4] + self.plain[:4] + small + large[:4]


def assign_data(module, _):
    module.weight.data = module.weight.data * 2


def assign_buffer(module, _):
    module.large = module.large + 1


def set_storage(module, _):
    module.weight.set_(torch.ones(4, 4))


def set_item(module, _):
    module.weight[0] = 0


WRITES = {
    "renorm_": lambda module, x: module.weight.renorm_(2, 0, 1.0),
    "mul_": lambda module, x: module.weight.mul_(2),
    "data.clamp_": lambda module, x: module.weight.data.clamp_(max=2),
    "detach.zero_": lambda module, x: module.weight.detach().zero_(),
    "copy_": lambda module, x: module.weight.copy_(module.weight * 2),
    "by another name": lambda module, x: module.tied.add_(1),
    "view": lambda module, x: module.weight.view(-1)[3:5].zero_(),
    "out": lambda module, x: torch.mul(module.weight, 2, out=module.weight),
    "foreach": lambda module, x: torch._foreach_mul_([module.weight], 2),
    "item": set_item,
    "data": assign_data,
    "set_": set_storage,
    "small buffer": lambda module, x: module.small.add_(1),
    "large buffer": lambda module, x: module.large.add_(1),
    "part of a buffer": lambda module, x: module.part.mul_(3),
    "assigned buffer": assign_buffer,
    "plain tensor": lambda module, x: module.plain.add_(1),
    "small in a dict": lambda module, x: module.kept["tensors"][0].add_(1),
    "large in a dict": lambda module, x: module.kept["tensors"][1].add_(1),
    "module in a list": lambda module, x: module.inner[0].weight.zero_(),
    "random": lambda module, x: module.weight.uniform_(),
}
WRITES_ANEW = {"data", "assigned buffer"}  # new tensors in their place


def tensors_of(module):
    named = dict((*module.named_parameters(), *module.named_buffers()))
    if isinstance(module, Writing):
        small, large = module.kept["tensors"]
        inner = module.inner[0].weight
        named |= {"p": module.plain, "s": small, "l": large, "i": inner}
    return named


def snapshot(module):
    return {
        name: (id(tensor), tensor.data_ptr(), tensor.detach().clone())
        for name, tensor in tensors_of(module).items()
    }


def check_is_as_before(module, before):
    after = snapshot(module)
    assert after.keys() == before.keys()
    for name, (*place, values) in before.items():
        assert after[name][:2] == tuple(place), name
        assert torch.equal(after[name][2], values), name


@pytest.mark.parametrize("name", WRITES)
def test_the_module_is_as_it_was_lent(name, rng):
    module = Writing(WRITES[name])
    before = snapshot(module)
    X = rng.normal(size=(9, 4)).astype("float32")
    extractor = TorchFeatureExtractor(module, batch_size=4).fit(X)
    first = extractor.transform(X)
    check_is_as_before(module, before)
    assert np.array_equal(extractor.transform(X), first)
    layer_table(module, X)
    batch_sensitivity(extractor, X)
    check_is_as_before(module, before)


@pytest.mark.parametrize("name", sorted(WRITES.keys() - WRITES_ANEW - {"random"}))
def test_a_batch_finds_the_module_as_it_was_lent(name, rng):
    """Else vectors would depend on the order of rows."""
    X = rng.normal(size=(9, 4)).astype("float32")
    expected = []
    for start in (0, 4, 8):
        with torch.no_grad():
            fresh = Writing(WRITES[name])
            fresh.load_state_dict(Writing(WRITES[name]).state_dict())
            fresh.inner[0] = copy.deepcopy(SHARED)
            expected.append(fresh(torch.from_numpy(X[start : start + 4])).numpy())
    module = Writing(WRITES[name])
    module.inner[0] = copy.deepcopy(SHARED)
    extractor = TorchFeatureExtractor(module, batch_size=4)
    for _ in range(2):
        Z = extractor.transform(X)
        np.testing.assert_allclose(Z, np.concatenate(expected), rtol=1e-5)


SHARED = nn.Linear(4, 4)


@pytest.mark.parametrize("name", ["renorm_", "data.clamp_", "data", "large buffer"])
def test_a_module_that_cannot_be_copied_is_put_back(name, rng):
    module = Writing(WRITES[name])
    module.inner = nn.ModuleList(module.inner)
    module.steps = 0
    module.inner[0].register_forward_hook(
        lambda *_: setattr(module, "steps", module.steps + 1)
    )
    before = snapshot(module)
    X = rng.normal(size=(9, 4)).astype("float32")
    extractor = TorchFeatureExtractor(module, batch_size=16).fit(X)
    first = extractor.transform(X)
    assert np.array_equal(extractor.transform(X), first)
    check_is_as_before(module, before)
    assert module.steps == 0


def test_an_embedding_with_max_norm_is_not_written_to(tmp_path):
    embedding = nn.Embedding(5, 4, max_norm=1.0)
    before = snapshot(embedding)
    X = np.array([[1, 2], [3, 4]])
    cached = TorchFeatureExtractor(embedding, pooling="mean", cache=tmp_path / "c.db")
    cached.fit(X)
    check_is_as_before(embedding, before)
    precompute(cached, X)
    Z = cached.transform(X)
    check_is_as_before(embedding, before)
    with torch.no_grad():
        expected = copy.deepcopy(embedding)(torch.tensor(X)).mean(1).numpy()
    np.testing.assert_allclose(Z, expected, rtol=1e-6)


class Scripted(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.register_buffer("seen", torch.ones(4))
        self.plain = torch.ones(4)
        self.steps = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            self.weight.mul_(2)
            self.seen.add_(1)
            self.plain.add_(1)
        self.steps += 1
        return x * self.weight * self.seen * self.plain


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_a_scripted_module_is_as_it_was_lent():
    module = torch.jit.script(Scripted())
    X = np.ones((9, 4), np.float32)
    extractor = TorchFeatureExtractor(module, batch_size=4)
    for _ in range(2):
        assert (extractor.transform(X)[:4] == 8).all()
    found = (module.weight, module.seen, module.plain)
    assert all((one == 1).all() for one in found)
    assert module.steps == 0


class Sometimes(nn.Module):
    """Writes for rows above 1 only."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4), requires_grad=False)

    def forward(self, x):
        if bool((x > 1).any()):
            self.weight.mul_(2)
        return x * self.weight


X_SOMETIMES = np.array([[0.0] * 4, [1.0] * 4, [2.0] * 4], np.float32)


def test_a_write_for_some_rows_only_is_an_error_and_then_a_copy():
    module = Sometimes()
    extractor = TorchFeatureExtractor(module, batch_size=1, on_error="nan")
    with pytest.raises(ValueError, match=r"has written to 'weight', after .* restore"):
        extractor.transform(X_SOMETIMES)
    module.weight.fill_(1)
    assert extractor.transform(X_SOMETIMES)[:, 0].tolist() == [0, 1, 4]
    assert module.weight.tolist() == [1] * 4


def test_weights_without_version_counters_are_watched_at_each_batch():
    with torch.inference_mode():
        module = Sometimes()
    extractor = TorchFeatureExtractor(module, batch_size=1)
    for _ in range(2):
        assert extractor.transform(X_SOMETIMES)[:, 0].tolist() == [0, 1, 4]
    assert module.weight.tolist() == [1] * 4


class Changing(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.clamps = False

    def forward(self, x):
        if self.clamps:
            self.weight.data.clamp_(max=0.5)
        return x * self.weight


@pytest.mark.parametrize("change", ["flag", "class", "hook", "forward"])
def test_a_module_that_was_changed_is_watched_again(change):
    """A write to ``.data`` bumps no version counter."""

    def clamp(module, *_):
        module.weight.data.clamp_(max=0.5)

    class Clamping(Changing):
        def forward(self, x):
            clamp(self)
            return x * self.weight

    module = Changing()
    extractor = TorchFeatureExtractor(module)
    X = np.ones((3, 4), np.float32)
    assert (extractor.transform(X) == 1).all()
    if change == "flag":
        module.clamps = True
    elif change == "class":
        module.__class__ = Clamping
    elif change == "hook":
        module.register_forward_pre_hook(clamp)
    else:
        module.forward = Clamping.forward.__get__(module)
    assert (extractor.transform(X) == 0.5).all()
    assert module.weight.tolist() == [1] * 4


def test_another_layer_and_another_kind_of_input_are_watched():
    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Identity()
            self.weight = nn.Parameter(torch.ones(4))

        def forward(self, x):
            x = self.first(x)
            if x.dtype == torch.int64:
                self.weight.data.mul_(3)
            else:
                self.weight.data.mul_(2)
            return x * self.weight

    module = Late()
    X = np.ones((3, 4), np.float32)
    assert (TorchFeatureExtractor(module, layer="first").transform(X) == 1).all()
    assert (TorchFeatureExtractor(module).transform(X) == 2).all()
    assert (TorchFeatureExtractor(module).transform(X.astype("int64")) == 3).all()
    assert module.weight.tolist() == [1] * 4


@pytest.mark.parametrize("place", ["buffer", "attribute", "dict"])
def test_a_large_tensor_is_not_copied_for_each_call(place):
    """Copying 200 MB takes 30 ms and more."""
    module = nn.Linear(4, 4)
    table = torch.ones(50_000_000)
    if place == "buffer":
        module.register_buffer("table", table)
    else:
        module.table = table if place == "attribute" else {"table": [table]}
    extractor = TorchFeatureExtractor(module)
    X = np.ones((1, 4), np.float32)
    extractor.transform(X)
    seconds = []
    for _ in range(10):
        began = time.perf_counter()
        extractor.transform(X)
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.01


def test_a_compiled_module_is_compiled_still(rng):
    """Torch gives code up for good that is first called in a dispatch mode."""
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module = torch.compile(Sometimes(), backend=backend, dynamic=False)
        X = rng.uniform(size=(3, 4)).astype("float32")
        assert np.array_equal(TorchFeatureExtractor(module).transform(X), X)
    assert graphs


def test_a_compiled_module_that_writes_is_put_back():
    module = Changing()
    module.clamps = True
    compiled = torch.compile(module, backend="eager")
    extractor = TorchFeatureExtractor(compiled)
    for _ in range(2):
        assert (extractor.transform(np.ones((2, 4), np.float32)) == 0.5).all()
    assert module.weight.tolist() == [1] * 4
