"""Maps of features with their channels on any axis: named poolings reduce space."""

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor
from tests.tiny_models import Counting, Returning

CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # of kernels, for other sizes of batches


class Turn(nn.Module):
    def __init__(self, *axes):
        super().__init__()
        self.axes = axes

    def forward(self, x):
        return x.permute(self.axes)


class NormOfChannelsFirst(nn.LayerNorm):
    """A layer normalisation by name that works on the second axis."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Scale(nn.Module):
    """A class of its own, with one weight a channel on the last axis."""

    def __init__(self, n_channels):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(1, 2, n_channels))

    def forward(self, x):
        return x * self.weight


class Residual(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return x + self.inner(x)


class Merging(nn.Module):
    """Halves the space of channels last, as between the stages of a Swin."""

    def __init__(self, n_channels):
        super().__init__()
        self.reduction = nn.Linear(2 * n_channels, 2 * n_channels)

    def forward(self, x):
        return self.reduction(torch.cat([x[:, ::2, ::2], x[:, 1::2, 1::2]], -1))


def swin(c):
    mlp = nn.Sequential(nn.Linear(c, 4 * c), nn.GELU(), nn.Linear(4 * c, c))
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, c, 4, 4), Turn(0, 2, 3, 1), nn.LayerNorm(c)),
        Residual(nn.Sequential(nn.LayerNorm(c), mlp)),
        Merging(c),
        Scale(2 * c),
        Returning(lambda x: torch.cat([x, x], -1)),
        Turn(0, 3, 1, 2),
        nn.AdaptiveAvgPool2d(1),
    )


def convnext(c):
    block = nn.Sequential(
        nn.Conv2d(c, c, 7, padding=3, groups=c),
        Turn(0, 2, 3, 1),
        nn.LayerNorm(c),
        nn.Linear(c, c),
        Turn(0, 3, 1, 2),
    )
    return nn.Sequential(
        nn.Conv2d(3, c, 4, 4),
        NormOfChannelsFirst(c),
        Residual(block),
        nn.GroupNorm(1, c),
        nn.MaxPool2d(2),
        Returning(lambda x: torch.cat([x, x], 1)),
        nn.PReLU(2 * c),
    )


def turned_in_between(c):
    return nn.Sequential(
        nn.Conv2d(3, c, 4, 4), Returning(lambda x: x.permute(0, 2, 3, 1).contiguous())
    )


def frames(c):
    """Gives (rows, frames, channels, height, width)."""
    return nn.Sequential(
        nn.Conv2d(3, c, 4, 4),
        nn.BatchNorm2d(c),
        Returning(lambda x: torch.stack([x, 2 * x], 1)),
        Returning(lambda x: x.flatten(0, 1)),
        nn.Conv2d(c, c, 1),
        Returning(lambda x: x.reshape(-1, 2, *x.shape[1:])),
    )


def video(c):
    return nn.Sequential(
        Returning(lambda x: torch.stack([x, 2 * x, 3 * x], 2)),
        nn.Conv3d(3, c, 3, padding=1),
        Turn(0, 2, 3, 4, 1),
        nn.Linear(c, c),
    )


LAYERS = [
    *(
        (swin, name, axis)
        for name, axis in zip("0123456", (3, 3, 3, 3, 3, 1, 1), strict=True)
    ),
    *((swin, "0.0", 1), (swin, "1.inner.1.0", 3)),
    *((convnext, name, 1) for name in "0123456"),
    *((convnext, "2.inner.1", 3), (convnext, "2.inner", 1)),
    *((turned_in_between, "0", 1), (turned_in_between, "1", 3)),
    *((frames, "1", 1), (frames, "5", 2)),
    *((video, "1", 1), (video, "2", 4), (video, "3", 4)),
]


def images(n_samples, *size):
    rng = np.random.default_rng(sum(size))
    return rng.standard_normal((n_samples, 3, *size)).astype(np.float32)


def value_of(module, layer, X):
    found = []
    part = module.get_submodule(layer)
    handle = part.register_forward_hook(lambda *given: found.append(given[2].clone()))
    with torch.inference_mode():
        module.eval()(torch.tensor(X))
    handle.remove()
    return found[0]


@pytest.mark.parametrize(
    ("build", "layer", "axis"),
    [pytest.param(*one, id=f"{one[0].__name__}-{one[1]}") for one in LAYERS],
)
@pytest.mark.parametrize(
    ("n_channels", "size"),
    [(6, (32, 32)), (6, (16, 48)), (8, (32, 32)), (4, (16, 16)), (8, (32, 16))],
    ids=str,
)
def test_named_poolings_reduce_space_wherever_channels_are(
    build, layer, axis, n_channels, size
):
    torch.manual_seed(0)
    module, X = build(n_channels), images(3, *size)
    value = value_of(module, layer, X)
    maps = value.movedim(axis, 1).flatten(2)
    expected = {"auto": maps.mean(2), "gap": maps.mean(2), "max": maps.amax(2)}
    for pooling, wanted in expected.items():
        Z = TorchFeatureExtractor(module, layer=layer, pooling=pooling).transform(X)
        np.testing.assert_allclose(Z, wanted, **CLOSE)


def test_none_flatten_and_callables_get_the_layout_of_the_model():
    module, X = swin(6), images(3, 32, 16)
    value = value_of(module, "1", X)
    for pooling, wanted in [
        (None, value),
        ("flatten", value.flatten(1)),
        (lambda hidden, _: hidden.amax((1, 2)), value.amax((1, 2))),
    ]:
        Z = TorchFeatureExtractor(module, layer="1", pooling=pooling).transform(X)
        np.testing.assert_allclose(Z, wanted, **CLOSE)


def test_weights_of_attention_are_no_channels_last():
    class Attention(nn.Module):
        """Gives (rows, heads, tokens, tokens), with as many tokens as features."""

        def __init__(self):
            super().__init__()
            self.embed = nn.Conv2d(3, 16, 4, 4)
            self.query = nn.Linear(16, 16)
            self.weights = nn.Softmax(-1)

        def forward(self, x):
            tokens = self.embed(x).flatten(2).transpose(1, 2)
            query = self.query(tokens).unflatten(2, (2, 8)).transpose(1, 2)
            return self.weights(query @ query.transpose(2, 3))

    module, X = Attention(), images(3, 16, 16)
    Z = TorchFeatureExtractor(module, layer="weights", pooling="max").transform(X)
    expected = value_of(module, "weights", X).amax((2, 3))
    np.testing.assert_allclose(Z, expected, **CLOSE)


def test_without_evidence_the_second_axis_is_that_of_channels():
    X = images(3, 5, 7)
    Z = TorchFeatureExtractor(nn.Identity()).transform(X)
    np.testing.assert_allclose(Z, X.mean((2, 3)), **CLOSE)


class Functional(nn.Module):
    """Has its channels last by its own code, and no module that shows it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0, 1, 12).reshape(4, 3, 1, 1))

    def forward(self, x):
        return nn.functional.conv2d(x, self.weight).permute(0, 2, 3, 1).relu()


@pytest.mark.parametrize("size", [(5, 7), (4, 4)], ids=str)
def test_without_modules_longer_inputs_show_where_channels_are(size):
    X = images(3, *size)
    for module in (Functional(), Returning(lambda x: x.permute(0, 2, 3, 1) * 2)):
        with torch.inference_mode():
            expected = module(torch.tensor(X)).mean((1, 2))
        Z = TorchFeatureExtractor(module).transform(X)
        np.testing.assert_allclose(Z, expected, **CLOSE)


class OneSize(nn.Module):
    def __init__(self, inner, size):
        super().__init__()
        self.inner = inner
        self.size = size

    def forward(self, x):
        if x.shape[2:] != self.size:
            msg = "another size"
            raise RuntimeError(msg)
        return self.inner(x)


def test_sizes_that_are_equal_and_cannot_be_changed_are_an_error_after_a_turn():
    X = images(3, 8, 8)
    plain = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU())
    expected = value_of(plain, "1", X).mean((2, 3))
    Z = TorchFeatureExtractor(OneSize(plain, (8, 8))).transform(X)
    np.testing.assert_allclose(Z, expected, **CLOSE)
    turned = OneSize(nn.Sequential(*plain, Turn(0, 2, 3, 1)), (8, 8))
    with pytest.raises(ValueError, match=r"channels .* \(., 8, 8, 8\).*a callable"):
        TorchFeatureExtractor(turned).transform(X)


def test_a_model_is_looked_at_once_for_its_channels():
    counting = Counting(nn.Conv2d(3, 5, 1))
    extractor = TorchFeatureExtractor(counting, batch_size=4)
    for n_samples in (4, 9, 1):
        extractor.transform(images(n_samples, 6, 7))
    extractor.set_params(pooling="max").transform(images(4, 8, 9))
    assert counting.tally.sizes == [4, 2, 4, 4, 1, 1, 4]


def test_a_layer_that_is_replaced_is_looked_at_again():
    module, X = nn.Sequential(nn.Conv2d(3, 5, 1), nn.Identity()), images(4, 6, 7)
    extractor = TorchFeatureExtractor(module)
    assert extractor.transform(X).shape == (4, 5)
    module[1] = Turn(0, 2, 3, 1)
    Z = extractor.transform(X)
    np.testing.assert_allclose(Z, value_of(module, "1", X).mean((1, 2)), **CLOSE)


def test_several_layers_keep_their_values():
    module = nn.Sequential(nn.Conv2d(3, 5, 1), Turn(0, 2, 3, 1), nn.ReLU(inplace=True))
    X = images(4, 6, 7)
    Z = TorchFeatureExtractor(module, layer=["0", "1", "2"]).transform(X)
    first = module[0](torch.tensor(X)).detach()
    expected = torch.cat([first, first, first.relu()], 1).mean((2, 3))
    np.testing.assert_allclose(Z, expected, **CLOSE)
