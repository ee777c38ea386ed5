"""Saved models with random weights, and rows for them."""

import pytest
import torch
import transformers

from sklearn_torch_bridge.models import _load_model, _registry
from sklearn_torch_bridge.models._kept_models import KeptModels
from tests import families
from tests.families import folder_with, picture_processor
from tests.tiny_models import mlp


@pytest.fixture
def own_registry(monkeypatch):
    """Load strings anew, and forget what a test registers."""
    monkeypatch.setattr(_load_model, "_BY_STRING", KeptModels())
    monkeypatch.setattr(_registry, "LIBRARIES", dict(_registry.LIBRARIES))


@pytest.fixture
def exported(tmp_path):
    """Export a program that takes any number of rows; return it with its module."""
    module = mlp().eval()
    program = torch.export.export(
        module, (torch.zeros(2, 4),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)
    )
    torch.export.save(program, tmp_path / "mlp.pt2")
    return f"export:{tmp_path / 'mlp.pt2'}", module


@pytest.fixture
def vit(tmp_path):
    config, _ = families.IMAGES["vit"]
    return folder_with(tmp_path, config, picture_processor())[1]


@pytest.fixture
def image_files(tmp_path, rng):
    paths = []
    for row, image in enumerate(families.make_images(rng, 4)):
        paths.append(tmp_path / f"{row}.png")
        image.save(paths[-1])
    return paths


@pytest.fixture
def clip_model(tmp_path):
    config = transformers.CLIPConfig(
        text_config={**families.TEXT, "max_position_embeddings": 32},
        vision_config=families.PICTURE,
        projection_dim=8,
    )
    processor = transformers.CLIPProcessor(
        image_processor=transformers.CLIPImageProcessorPil(
            size={"height": 32, "width": 32}, crop_size={"height": 32, "width": 32}
        ),
        tokenizer=families.make_tokenizer(),
    )
    return folder_with(tmp_path, config, processor)[1]


@pytest.fixture
def clips(rng):
    return [
        rng.normal(size=n).astype("float32") * 0.1 for n in (4_000, 6_400, 4_000, 9_000)
    ]
