import numpy as np
import pytest
import transformers
from torch import nn
from transformers import ViTImageProcessor, Wav2Vec2FeatureExtractor

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge.models._media import ImageRows, SoundRows
from sklearn_torch_bridge.models._processors import (
    is_media_processor,
    media_of,
    text_part,
)
from tests import families
from tests.families import TEXT_ROWS, make_images

pytestmark = pytest.mark.filterwarnings(
    # transformers asks the interpreter for its platform in a way that is deprecated.
    "ignore:.*is deprecated:FutureWarning"
)


def test_a_processor_may_be_given_beside_a_module(vit, image_files):
    folder = vit.removeprefix("hf:")
    apart = TorchFeatureExtractor(
        transformers.AutoModel.from_pretrained(folder),
        preprocess=transformers.AutoImageProcessor.from_pretrained(folder),
    )
    together = TorchFeatureExtractor(vit)
    for X in (image_files, list(map(str, image_files))):
        np.testing.assert_array_equal(apart.transform(X), together.transform(X))


def test_a_processor_of_several_kinds_may_be_given_beside_a_part(clip_model, rng):
    model = transformers.CLIPModel.from_pretrained(clip_model.removeprefix("hf:"))
    processor = transformers.CLIPProcessor.from_pretrained(
        clip_model.removeprefix("hf:")
    )
    for part, own, rows in (
        (model.vision_model, processor.image_processor, families.make_images(rng)),
        (model.text_model, processor.tokenizer, TEXT_ROWS),
    ):
        Z, expected = (
            TorchFeatureExtractor(part, preprocess=one).transform(rows)
            for one in (processor, own)
        )
        np.testing.assert_array_equal(Z, expected)


class Pixels(nn.Module):
    def forward(self, pixel_values):
        return pixel_values


@pytest.fixture(scope="module")
def pictures():
    return ViTImageProcessor(size={"height": 8, "width": 8})


@pytest.fixture(scope="module")
def sounds():
    return Wav2Vec2FeatureExtractor(sampling_rate=100)


def test_processors_of_images_and_sound_are_known(pictures, sounds, tokenizer):
    assert is_media_processor(pictures)
    assert is_media_processor(sounds)
    for other in (tokenizer, list, None):
        assert not is_media_processor(other)
        assert media_of(other, Pixels()) is None
    assert isinstance(media_of(pictures, Pixels()), ImageRows)
    assert isinstance(media_of(sounds, Pixels()), SoundRows)


def test_only_a_processor_of_several_kinds_has_a_part_for_texts(pictures, tokenizer):
    assert text_part(tokenizer) is tokenizer
    assert text_part(pictures) is pictures


def test_images_become_the_arguments_that_the_forward_names(pictures, rng):
    made = media_of(pictures, Pixels())(make_images(rng, 2))
    assert list(made) == ["pixel_values"]
    assert made["pixel_values"].shape == (2, 3, 8, 8)
    with_others = type("Others", (nn.Module,), {"forward": lambda self, other: other})
    assert media_of(pictures, with_others())(make_images(rng, 1)) == {}
