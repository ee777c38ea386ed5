"""Texts of models that were trained on texts of one length."""

import numpy as np
import pytest
import torch
import transformers as t
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor, TruncationWarning
from sklearn_torch_bridge.models import FixedLength, fixed_length
from tests.families import PICTURE, TEXT, TEXT_ROWS, folder_with, make_tokenizer

LENGTH = 16
WORDS = {**TEXT, "max_position_embeddings": LENGTH, "projection_size": 16}
BOTH = {"text_config": WORDS, "vision_config": PICTURE}
SIGLIPS = {
    "siglip": (t.SiglipConfig(**BOTH), ["input_ids"]),
    "siglip2": (t.Siglip2Config(**BOTH), ["input_ids", "attention_mask"]),
}


def tokenizer_for(names, side="right", length=LENGTH):
    tokenizer = make_tokenizer()
    tokenizer.model_input_names = names
    tokenizer.model_max_length = length
    tokenizer.padding_side = side
    return tokenizer


def documented(model, tokenizer):
    asked = {"padding": "max_length", "max_length": LENGTH, "truncation": True}
    given = tokenizer(TEXT_ROWS, return_tensors="pt", **asked)
    with torch.inference_mode():
        found = model.get_text_features(**given)
    return getattr(found, "pooler_output", found).numpy()


def cosines(one, other):
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(1) / lengths


@pytest.mark.parametrize("family", SIGLIPS)
def test_a_folder_equals_the_documented_call(tmp_path, family):
    config, names = SIGLIPS[family]
    model, name = folder_with(tmp_path, config, tokenizer_for(names))
    tokenizer = t.AutoTokenizer.from_pretrained(tmp_path / "model")
    extractor = TorchFeatureExtractor(name, batch_size=2, too_long="cut")
    Z = extractor.transform(TEXT_ROWS)
    np.testing.assert_allclose(cosines(Z, documented(model, tokenizer)), 1, atol=1e-6)


@pytest.mark.parametrize("length", [LENGTH, 10**30], ids=["own maximum", "no maximum"])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", SIGLIPS)
def test_a_tower_with_a_tokenizer_equals_the_documented_call(family, side, length):
    config, names = SIGLIPS[family]
    torch.manual_seed(0)
    model = t.AutoModel.from_config(config).eval()
    tokenizer = tokenizer_for(names, side, length)
    tower = TorchFeatureExtractor(
        model.text_model, preprocess=tokenizer, output="pooler_output", batch_size=2
    )
    found = cosines(tower.transform(TEXT_ROWS), documented(model, tokenizer))
    np.testing.assert_allclose(found, 1, atol=1e-6)


def test_a_mask_that_the_tokenizer_does_not_give_is_not_given():
    """SigLIP was trained to read its padding."""

    class Named(t.SiglipTextModel):
        def forward(self, input_ids, attention_mask=None):
            assert attention_mask is None
            return super().forward(input_ids)

    torch.manual_seed(0)
    tokenizer = tokenizer_for(["input_ids"])
    model = Named(t.SiglipTextConfig(**WORDS)).eval()
    tower = TorchFeatureExtractor(model, preprocess=tokenizer, output="pooler_output")
    given = tokenizer(TEXT_ROWS, padding="max_length", return_tensors="pt")
    with torch.inference_mode():
        expected = model(**given).pooler_output.numpy()
    np.testing.assert_allclose(tower.transform(TEXT_ROWS), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (t.OwlViTTextConfig(**WORDS), 16),
        (t.AlignTextConfig(**TEXT, max_position_embeddings=128), 64),
        (t.BertConfig(**TEXT), None),
        (t.CLIPTextConfig(**TEXT), None),
    ],
    ids=lambda value: getattr(value, "model_type", value),
)
def test_the_defaults_of_the_processor_beside_a_model_say_the_length(model, expected):
    classes = {
        "owlvit_text_model": t.OwlViTTextModel,
        "align_text_model": t.AlignTextModel,
    }
    build = classes.get(model.model_type, t.AutoModel.from_config)
    found = fixed_length(build(model), None, tokenizer_for(["input_ids"], "right", 32))
    assert (found and found.n_tokens) == expected


def test_a_model_inside_another_is_found_and_a_processor_given_counts():
    inner = t.SiglipTextModel(t.SiglipTextConfig(**WORDS))
    tokenizer = make_tokenizer()
    assert fixed_length(nn.Sequential(inner), None, tokenizer) == (LENGTH, False)
    processor = t.Siglip2Processor.__new__(t.Siglip2Processor)
    processor.tokenizer = tokenizer
    assert fixed_length(inner, processor, tokenizer) == FixedLength(LENGTH, True)
    assert fixed_length(nn.Linear(2, 2), None, tokenizer) is None


def test_a_text_that_is_longer_keeps_all_that_the_documented_call_keeps():
    config, names = SIGLIPS["siglip2"]
    torch.manual_seed(0)
    model = t.AutoModel.from_config(config).eval()
    tokenizer = tokenizer_for(names, length=10**30)
    text = " ".join("abcdefghijklmnop" * 2)
    asked = {"padding": "max_length", "max_length": LENGTH, "truncation": True}
    given = tokenizer([text], return_tensors="pt", **asked)
    with torch.inference_mode():
        expected = model.text_model(**given).pooler_output.numpy()
    extractor = TorchFeatureExtractor(
        model.text_model, preprocess=tokenizer, output="pooler_output"
    )
    with pytest.warns(TruncationWarning, match="row 0 of `X` was cut at 16 tokens"):
        Z = extractor.transform([text, "a b"])
    np.testing.assert_allclose(Z[:1], expected, atol=1e-5)
