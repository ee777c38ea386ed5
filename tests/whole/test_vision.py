"""``"timm:"`` and ``"torchvision:"``, with random weights saved where each looks.

Run where torchvision imports beside torch; elsewhere skipped, with the reason.
"""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sklearn_torch_bridge import EmbeddingCache, TorchFeatureExtractor
from sklearn_torch_bridge.models import _registry
from tests.families import make_images

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def why_not(*packages):
    """Say why packages cannot be imported; None where they can."""
    for package in packages:
        try:
            __import__(package)
        except (ImportError, RuntimeError) as error:
            return f"{package} does not import: {error}"
    return None


without_timm = pytest.mark.skipif(
    why_not("timm") is not None, reason=why_not("timm") or "it is there"
)
without_torchvision = pytest.mark.skipif(
    why_not("torchvision") is not None, reason=why_not("torchvision") or "it is there"
)


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch):
    monkeypatch.setattr(_registry, "_BY_STRING", _registry._Loaded())


@pytest.fixture
def images(rng):
    return make_images(rng)


def by_hand(model, transform, images, layer=None):
    """Run one image after the other; average what is not features."""
    heard = []
    handle = model.get_submodule(layer or "").register_forward_hook(
        # A copy: a later layer may work in place.
        lambda _module, _args, value: heard.append(value.clone())
    )
    with torch.inference_mode():
        for image in images:
            model(transform(image.convert("RGB"))[None])
    handle.remove()
    values = torch.cat(heard)
    if values.ndim == 4:
        values = values.mean((2, 3))
    return (values.mean(1) if values.ndim == 3 else values).numpy()


# timm -------------------------------------------------------------------------------

TIMM = {
    "resnet10t": ["conv1", "layer2"],
    "vit_tiny_patch16_224": ["patch_embed", "blocks.3"],
    "mobilenetv3_small_050": ["conv_stem", "blocks.2"],
    "convnext_atto": ["stem", "stages.1"],
}


@without_timm
class TestTimm:
    @pytest.fixture
    def saved(self, tmp_path):
        """Save a model with random weights as one of the hub would be."""
        import timm

        def save(name):
            torch.manual_seed(0)
            model = timm.create_model(name, pretrained=False).eval()
            timm.models.save_for_hf(model, tmp_path / name)
            return model, f"timm:{tmp_path / name}"

        return save

    @pytest.mark.parametrize("name", TIMM)
    def test_an_architecture_equals_a_loop_by_hand(self, saved, name, images):
        import timm

        model, string = saved(name)
        config = timm.data.resolve_model_data_config(model)
        transform = timm.data.create_transform(**config, is_training=False)
        model.reset_classifier(0)
        for layer in (None, *TIMM[name]):
            Z = TorchFeatureExtractor(string, layer=layer, batch_size=2).transform(
                images
            )
            np.testing.assert_allclose(
                Z, by_hand(model, transform, images, layer), **CLOSE
            )

    def test_paths_are_opened_in_threads(self, saved, images, tmp_path):
        _, string = saved("resnet10t")
        paths = [tmp_path / f"{row}.png" for row in range(len(images))]
        for path, image in zip(paths, images, strict=True):
            image.save(path)
        extractor = TorchFeatureExtractor(string, num_workers=2, batch_size=2)
        np.testing.assert_array_equal(
            extractor.transform([str(path) for path in paths]),
            extractor.transform(images),
        )

    def test_a_warm_cache_needs_no_model(self, saved, images, tmp_path, monkeypatch):
        _, string = saved("resnet10t")
        store = EmbeddingCache(tmp_path / "e.db")
        extractor = TorchFeatureExtractor(string, cache=store)
        Z = extractor.transform(images)
        monkeypatch.setattr(_registry, "_load_string", None)
        _registry._BY_STRING.forget(string)
        np.testing.assert_array_equal(extractor.transform(images), Z)

    def test_a_name_without_weights_says_what_to_do(self, images):
        with pytest.raises(ValueError, match=r"'timm:resnet10t' must be a folder"):
            TorchFeatureExtractor("timm:resnet10t").transform(images)


# torchvision ------------------------------------------------------------------------

# Model: its weights, two layers, and where its head is.
TORCHVISION = {
    "resnet18": ("ResNet18_Weights.IMAGENET1K_V1", ["conv1", "layer2"], "fc"),
    "mobilenet_v3_small": (
        "MobileNet_V3_Small_Weights.IMAGENET1K_V1",
        ["features.0", "features.3"],
        "classifier.3",
    ),
    "squeezenet1_1": (
        "SqueezeNet1_1_Weights.IMAGENET1K_V1",
        ["features.0", "features.3"],
        None,
    ),
    "vit_b_32": (
        "ViT_B_32_Weights.IMAGENET1K_V1",
        ["conv_proj", "encoder.layers.encoder_layer_1"],
        "heads.head",
    ),
}


@without_torchvision
class TestTorchvision:
    @pytest.fixture
    def saved(self, tmp_path, monkeypatch):
        """Put random weights where torch.hub keeps what it has downloaded."""
        import torchvision

        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        (tmp_path / "checkpoints").mkdir()

        def save(name):
            torch.manual_seed(0)
            weights = torchvision.models.get_weight(TORCHVISION[name][0])
            model = torchvision.models.get_model(name).eval()
            file = weights.url.rpartition("/")[2]
            torch.save(model.state_dict(), tmp_path / "checkpoints" / file)
            return model, weights.transforms()

        return save

    @pytest.mark.parametrize("name", TORCHVISION)
    def test_an_architecture_equals_a_loop_by_hand(self, saved, name, images):
        model, transform = saved(name)
        weights, layers, head = TORCHVISION[name]
        if head is None:
            model.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        else:
            parent, _, last = head.rpartition(".")
            setattr(model.get_submodule(parent), last, nn.Identity())
        for layer in (None, *layers):
            Z = TorchFeatureExtractor(
                f"torchvision:{weights}", layer=layer, batch_size=2
            ).transform(images)
            np.testing.assert_allclose(
                Z, by_hand(model, transform, images, layer), **CLOSE
            )

    def test_a_model_has_its_default_weights(self, saved, images):
        saved("resnet18")
        by_weights = TorchFeatureExtractor("torchvision:ResNet18_Weights.IMAGENET1K_V1")
        by_model = TorchFeatureExtractor("torchvision:resnet18")
        np.testing.assert_array_equal(
            by_model.transform(images), by_weights.transform(images)
        )

    def test_weights_tell_models_apart_in_a_cache(self, saved, images, tmp_path):
        store = EmbeddingCache(tmp_path / "e.db")
        extractor = TorchFeatureExtractor("torchvision:resnet18", cache=store)
        saved("resnet18")
        Z = extractor.transform(images)
        np.testing.assert_array_equal(extractor.transform(images), Z)
        assert store.stats()["hits"] == len(images)
        with torch.no_grad():
            _registry.load_model("torchvision:resnet18").module.conv1.weight.mul_(2)
        assert not np.array_equal(extractor.transform(images), Z)

    @pytest.mark.parametrize("name", ["resnet_x", "ResNet18_Weights.NONE", "A.B"])
    def test_a_name_that_is_none_says_what_to_do(self, name, images):
        with pytest.raises(ValueError, match=r"must name a model .* or its weights"):
            TorchFeatureExtractor(f"torchvision:{name}").transform(images)

    def test_pictures_as_arrays_are_pictures(self, saved, images):
        saved("resnet18")
        extractor = TorchFeatureExtractor("torchvision:resnet18")
        arrays = [np.array(image) for image in images]
        grey = [Image.fromarray(np.array(image.convert("L"))) for image in images]
        expected = extractor.transform(images)
        np.testing.assert_array_equal(extractor.transform(arrays), expected)
        assert extractor.transform(grey).shape == expected.shape
