"""Model strings, callables and SentenceTransformer objects, on a real model."""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import cos_sim

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge.models._hf import load_hf
from sklearn_torch_bridge.models._registry import load_model

TOLERANCE = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(scope="module")
def sentence_transformer(minilm_path):
    return SentenceTransformer(minilm_path, device="cpu")


def normalise(Z):
    return Z / np.linalg.norm(Z, axis=1, keepdims=True)


def test_a_model_string_equals_sentence_transformers(
    minilm_path, sentence_transformer, texts
):
    Z = TorchFeatureExtractor(f"hf:{minilm_path}", batch_size=3).transform(texts)
    expected = sentence_transformer.encode(texts)
    np.testing.assert_allclose(normalise(Z), expected, **TOLERANCE)


def test_a_sentence_transformer_takes_texts_as_it_is(sentence_transformer, texts):
    extractor = TorchFeatureExtractor(sentence_transformer, batch_size=3)
    Z = extractor.fit_transform(texts)
    np.testing.assert_allclose(Z, sentence_transformer.encode(texts), **TOLERANCE)
    assert extractor.transform([]).shape == (0, 384)


def test_a_layer_of_a_sentence_transformer_is_pooled_over_real_tokens(
    sentence_transformer, minilm_path, texts
):
    layers = [name for name, _ in sentence_transformer.named_modules()]
    (name,) = [name for name in layers if name.endswith("encoder.layer.2")]
    Z = TorchFeatureExtractor(sentence_transformer, layer=name).transform(texts)
    same = TorchFeatureExtractor(f"hf:{minilm_path}", layer="encoder.layer.2")
    np.testing.assert_allclose(Z, same.transform(texts), rtol=1e-5, atol=1e-5)


def test_long_texts_are_cut_where_the_sentence_transformer_cuts(sentence_transformer):
    texts = ["word " * 400, "short"]
    Z = TorchFeatureExtractor(sentence_transformer).transform(texts)
    np.testing.assert_allclose(Z, sentence_transformer.encode(texts), **TOLERANCE)


def test_a_model_with_its_tokenizer_equals_the_model_string(
    minilm, tokenizer, minilm_path, texts
):
    apart = TorchFeatureExtractor(minilm, preprocess=tokenizer)
    together = TorchFeatureExtractor(f"hf:{minilm_path}")
    np.testing.assert_array_equal(apart.transform(texts), together.transform(texts))
    assert minilm.training


@pytest.mark.parametrize("layer", ["encoder.layer.0", "encoder.layer.4", None], ids=str)
def test_a_layer_equals_the_hidden_state_of_the_model(minilm_path, texts, layer):
    """The independent route: transformers' own `output_hidden_states`."""
    loaded = load_model(f"hf:{minilm_path}")
    given = loaded.preprocess(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        output = loaded.module.eval()(**given, output_hidden_states=True)
    state = output.hidden_states[-1 if layer is None else int(layer[-1]) + 1]
    mask = given["attention_mask"].unsqueeze(-1)
    expected = (state * mask).sum(1) / mask.sum(1)
    Z = TorchFeatureExtractor(f"hf:{minilm_path}", layer=layer).transform(texts)
    np.testing.assert_allclose(Z, expected.numpy(), rtol=1e-5, atol=1e-5)


def test_the_pooler_can_be_asked_for(minilm_path, texts):
    extractor = TorchFeatureExtractor(f"hf:{minilm_path}", output="pooler_output")
    assert extractor.transform(texts[:2]).shape == (2, 384)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_padding_does_not_change_a_row(minilm_path, texts, batch_size):
    Z = TorchFeatureExtractor(f"hf:{minilm_path}", batch_size=8).transform(texts)
    other = TorchFeatureExtractor(f"hf:{minilm_path}", batch_size=batch_size)
    largest = np.abs(Z).max(axis=1, keepdims=True)
    difference = np.abs(other.transform(texts) - Z) / largest
    assert difference.max() <= 1e-5


def test_a_string_is_loaded_once(minilm_path):
    assert load_model(f"hf:{minilm_path}") is load_model(f"hf:{minilm_path}")


def test_loading_shows_nothing(minilm_path, capfd):
    load_hf(minilm_path)
    assert capfd.readouterr() == ("", "")


def test_the_model_knows_what_it_reads(minilm_path):
    near, also_near, far = TorchFeatureExtractor(f"hf:{minilm_path}").transform(
        ["a cat on a mat", "a kitten lies on a rug", "quarterly tax returns"]
    )
    assert cos_sim(near, also_near) > cos_sim(near, far) + 0.3
