"""``"torchvision:"``, with random weights saved where it looks.

Run where torchvision imports beside torch; elsewhere skipped, with the reason.
"""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sklearn_torch_bridge import EmbeddingCache, TorchFeatureExtractor
from sklearn_torch_bridge.models._load_model import load_model
from tests.families import CLOSE, by_hand, make_images, why_not

WHY_NOT = why_not("torchvision")
pytestmark = [
    pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or "it is there"),
    pytest.mark.usefixtures("own_registry"),
]


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


@pytest.fixture
def images(rng):
    return make_images(rng)


@pytest.fixture
def saved(tmp_path, monkeypatch):
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
def test_an_architecture_equals_a_loop_by_hand(saved, name, images):
    model, transform = saved(name)
    weights, layers, head = TORCHVISION[name]
    if head is None:
        model.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    else:
        parent, _, last = head.rpartition(".")
        setattr(model.get_submodule(parent), last, nn.Identity())

    def prepare(image):
        return transform(image.convert("RGB"))[None]

    for layer in (None, *layers):
        Z = TorchFeatureExtractor(
            f"torchvision:{weights}", layer=layer, batch_size=2
        ).transform(images)
        expected = by_hand(model, images, prepare, layer)
        np.testing.assert_allclose(Z, expected, **CLOSE)


def test_a_model_has_its_default_weights(saved, images):
    saved("resnet18")
    by_weights = TorchFeatureExtractor("torchvision:ResNet18_Weights.IMAGENET1K_V1")
    by_model = TorchFeatureExtractor("torchvision:resnet18")
    np.testing.assert_array_equal(
        by_model.transform(images), by_weights.transform(images)
    )


def test_weights_identify_a_model_in_a_cache(saved, images, tmp_path):
    store = EmbeddingCache(tmp_path / "e.db")
    extractor = TorchFeatureExtractor("torchvision:resnet18", cache=store)
    saved("resnet18")
    Z = extractor.transform(images)
    np.testing.assert_array_equal(extractor.transform(images), Z)
    assert store.stats()["hits"] == len(images)
    with torch.no_grad():
        load_model("torchvision:resnet18").module.conv1.weight.mul_(2)
    assert not np.array_equal(extractor.transform(images), Z)


@pytest.mark.parametrize("name", ["resnet_x", "ResNet18_Weights.NONE", "A.B"])
def test_a_name_that_is_none_says_what_to_do(name, images):
    with pytest.raises(ValueError, match=r"must name a model .* or its weights"):
        TorchFeatureExtractor(f"torchvision:{name}").transform(images)


def test_pictures_as_arrays_are_pictures(saved, images):
    saved("resnet18")
    extractor = TorchFeatureExtractor("torchvision:resnet18")
    arrays = [np.array(image) for image in images]
    grey = [Image.fromarray(np.array(image.convert("L"))) for image in images]
    expected = extractor.transform(images)
    np.testing.assert_array_equal(extractor.transform(arrays), expected)
    assert extractor.transform(grey).shape == expected.shape
