"""Only models that are known not to write to their rows see the caller's memory."""

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge._rows._arrays import ArrayFeed
from sklearn_torch_bridge.models._read_only_models import only_reads


class Halves(nn.Linear):
    """A linear layer that works in place."""

    def forward(self, x):
        return super().forward(x.mul_(0.5))


class Weights(nn.Parameter):
    """A parameter whose functions are not torch's own."""


def halve(_, args):
    args[0].mul_(0.5)


def halve_after(_, args, _output):
    args[0].mul_(0.5)


def linear():
    return nn.Linear(3, 2)


def hooked(register):
    module = linear()
    getattr(module, register)(halve if "pre" in register else halve_after)
    return module


def replaced(module, name):
    setattr(module, name, lambda x, *_: x.mul_(0.5))
    return module


def with_weights():
    module = linear()
    module.weight = Weights(module.weight.data)
    return module


def with_weights_as(register):
    """Keep weights that are no parameters."""
    module = linear()
    weights = module.weight.detach()
    del module.weight
    if register:
        module.register_buffer("weight", weights)
    else:
        module.weight = weights
    return module


def shared_start():
    module = nn.Sequential(hooked("register_forward_pre_hook"))
    return nn.Sequential(module, nn.Linear(2, 2))


READ = {
    "linear": linear(),
    "convolution": nn.Conv2d(3, 2, 1),
    "in a Sequential, in-place layers behind": nn.Sequential(
        nn.Sequential(linear()), nn.ReLU(inplace=True)
    ),
}
MAY_WRITE = {
    "in-place layer first": nn.Sequential(nn.ReLU(inplace=True), linear()),
    "view first": nn.Sequential(nn.Flatten(), nn.ReLU(inplace=True)),
    "nothing": nn.Sequential(),
    "subclass": Halves(3, 2),
    "hook before": nn.Sequential(hooked("register_forward_pre_hook")),
    "hook after": hooked("register_forward_hook"),
    "hook deep inside": shared_start(),
    "forward of its own": replaced(linear(), "forward"),
    "call of its own": replaced(linear(), "_call_impl"),
    "convolution of its own": replaced(nn.Conv2d(3, 2, 1), "_conv_forward"),
    "weights in a buffer": with_weights_as("buffer"),
    "weights in an attribute": with_weights_as(None),
    "weights of another kind": with_weights(),
    "weights made anew": nn.utils.parametrizations.weight_norm(linear()),
    "code of a user": nn.Identity(),
}


@pytest.mark.parametrize("name", READ)
def test_of_known_layers_it_is_known(name):
    assert only_reads(READ[name])


@pytest.mark.parametrize("name", MAY_WRITE)
def test_of_all_others_it_is_not(name):
    assert not only_reads(MAY_WRITE[name])


def test_hooks_of_all_modules_may_write():
    handle = nn.modules.module.register_module_forward_pre_hook(halve)
    try:
        assert not only_reads(linear())
    finally:
        handle.remove()
    assert only_reads(linear())


@pytest.mark.parametrize("name", ["forward", "_call_impl"])
def test_methods_of_torch_may_be_replaced(monkeypatch, name):
    monkeypatch.setattr(nn.Linear, name, lambda self, x: x.mul_(0.5))
    assert not only_reads(nn.Sequential(linear()))
    assert only_reads(nn.Conv2d(3, 2, 1))


@pytest.mark.parametrize("name", [*READ, *MAY_WRITE])
@pytest.mark.parametrize("batch_size", [2, "auto"])
def test_no_model_changes_the_callers_rows(rng, name, batch_size):
    model = (READ | MAY_WRITE)[name]
    shape = (5, 3, 2, 2) if isinstance(model, nn.Conv2d) else (5, 3)
    X = rng.standard_normal(shape, dtype=np.float32)
    before = X.copy()
    extractor = TorchFeatureExtractor(model, batch_size=batch_size, device="cpu")
    first = extractor.transform(X)
    np.testing.assert_array_equal(X, before)
    np.testing.assert_array_equal(extractor.transform(X), first)
    assert not np.shares_memory(first, X)


@pytest.fixture
def batches(monkeypatch):
    """Collect the tensors that models get."""
    given = []

    class Telling(ArrayFeed):
        def batch(self, rows):
            inputs = super().batch(rows)
            given.append(inputs.args[0])
            return inputs

    monkeypatch.setattr("sklearn_torch_bridge._rows._arrays.ArrayFeed", Telling)
    return given


def shares(batch, X):
    return np.shares_memory(batch.numpy(), X)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda X: X, True),
        (lambda X: X[::2], False),
        (np.asfortranarray, False),
        (lambda X: X.astype(np.float64), False),
        (lambda X: X.astype(">f4"), False),
    ],
    ids=["as it is", "strided", "by columns", "other dtype", "other byte order"],
)
def test_only_rows_that_are_as_the_model_takes_them_are_shown(
    rng, batches, change, expected
):
    X = change(rng.standard_normal((6, 3), dtype=np.float32))
    Z = TorchFeatureExtractor(linear(), batch_size=3, device="cpu").transform(X)
    assert len(batches) == -(-len(X) // 3)
    assert {shares(batch, X) for batch in batches} == {expected}
    assert Z.shape == (len(X), 2)


@pytest.mark.parametrize(
    "change",
    [
        lambda X: X[:1][::-1],
        lambda X: X[4::-5],
        lambda X: X[:, :1].copy()[:, ::-1],
        lambda X: np.zeros(6, "f4,i1")["f0"][:, None],
        lambda X: np.frombuffer(bytearray(4 * X.size + 1), "f4", offset=1)[:, None],
    ],
    ids=["turned", "strided back", "one column turned", "a field", "not aligned"],
)
def test_strides_of_axes_of_length_one_do_not_matter(rng, batches, change):
    X = change(rng.standard_normal((6, 3), dtype=np.float32))
    model = nn.Linear(X.shape[1], 2)
    Z = TorchFeatureExtractor(model, batch_size=2, device="cpu").transform(X)
    expected = model(torch.from_numpy(X.copy())).detach().numpy()
    np.testing.assert_allclose(Z, expected, rtol=1e-6, atol=1e-6)
    assert {shares(batch, X) for batch in batches} == {False}


def test_images_of_one_channel_are_laid_out_as_a_copy_is(rng, batches):
    X = rng.standard_normal((3, 8, 8, 1), dtype=np.float32).transpose(0, 3, 1, 2)
    assert X.flags.c_contiguous
    TorchFeatureExtractor(nn.Conv2d(1, 4, 3), device="cpu").transform(X)
    assert {batch.stride() for batch in batches} == {(64, 64, 8, 1)}


def test_read_only_rows_are_copied(rng, batches):
    X = rng.standard_normal((6, 3), dtype=np.float32)
    X.flags.writeable = False
    TorchFeatureExtractor(linear(), device="cpu").transform(X)
    assert not shares(batches[-1], X)


@pytest.mark.skipif(torch.__version__ < (2, 13), reason="compile=True needs torch 2.13")
def test_compiled_code_gets_copies(rng, batches):
    X = rng.standard_normal((6, 3), dtype=np.float32)
    TorchFeatureExtractor(linear(), device="cpu", compile=True).transform(X)
    assert not shares(batches[-1], X)


def test_of_scattered_rows_the_model_gets_what_was_gathered(rng):
    X = rng.standard_normal((6, 3), dtype=np.float32)
    feed = ArrayFeed(X, torch.float32, only_read=True)
    (batch,) = feed.batch(np.array([4, 1])).args
    assert not shares(batch, X)
    np.testing.assert_array_equal(batch.numpy(), X[[4, 1]])
