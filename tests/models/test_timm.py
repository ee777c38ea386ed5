"""``"timm:"``, with random weights saved where it looks.

Run where timm imports beside torch; elsewhere skipped, with the reason.
"""

import numpy as np
import pytest
import torch

from sklearn_torch_bridge import EmbeddingCache, TorchFeatureExtractor
from sklearn_torch_bridge.models import _load_model
from tests.families import CLOSE, by_hand, make_images, why_not

WHY_NOT = why_not("timm")
pytestmark = [
    pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or "it is there"),
    pytest.mark.usefixtures("own_registry"),
]


TIMM = {
    "resnet10t": ["conv1", "layer2"],
    "vit_tiny_patch16_224": ["patch_embed", "blocks.3"],
    "mobilenetv3_small_050": ["conv_stem", "blocks.2"],
    "convnext_atto": ["stem", "stages.1"],
}


@pytest.fixture
def images(rng):
    return make_images(rng)


@pytest.fixture
def saved(tmp_path):
    """Save a model with random weights as one of the hub would be."""
    import timm

    def save(name):
        torch.manual_seed(0)
        model = timm.create_model(name, pretrained=False).eval()
        timm.models.save_for_hf(model, tmp_path / name)
        return model, f"timm:{tmp_path / name}"

    return save


@pytest.mark.parametrize("name", TIMM)
def test_an_architecture_equals_a_loop_by_hand(saved, name, images):
    import timm

    model, string = saved(name)
    config = timm.data.resolve_model_data_config(model)
    transform = timm.data.create_transform(**config, is_training=False)
    model.reset_classifier(0)

    def prepare(image):
        return transform(image.convert("RGB"))[None]

    for layer in (None, *TIMM[name]):
        Z = TorchFeatureExtractor(string, layer=layer, batch_size=2).transform(images)
        expected = by_hand(model, images, prepare, layer)
        np.testing.assert_allclose(Z, expected, **CLOSE)


def test_paths_are_opened_in_threads(saved, images, tmp_path):
    _, string = saved("resnet10t")
    paths = [tmp_path / f"{row}.png" for row in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        image.save(path)
    extractor = TorchFeatureExtractor(string, num_workers=2, batch_size=2)
    np.testing.assert_array_equal(
        extractor.transform([str(path) for path in paths]), extractor.transform(images)
    )


def test_a_warm_cache_needs_no_model(saved, images, tmp_path, monkeypatch):
    _, string = saved("resnet10t")
    store = EmbeddingCache(tmp_path / "e.db")
    extractor = TorchFeatureExtractor(string, cache=store)
    Z = extractor.transform(images)
    monkeypatch.setattr(_load_model, "_load_string", None)
    _load_model._BY_STRING.forget(string)
    np.testing.assert_array_equal(extractor.transform(images), Z)


def test_a_name_without_weights_says_what_to_do(images):
    with pytest.raises(ValueError, match=r"'timm:resnet10t' must be a folder"):
        TorchFeatureExtractor("timm:resnet10t").transform(images)
