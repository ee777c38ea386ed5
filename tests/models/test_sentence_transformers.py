"""``"st:"`` and `SentenceTransformer` objects: `encode` returns the same."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import sentence_transformers
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router
from sentence_transformers.sentence_transformer.modules import (
    CNN,
    LSTM,
    BoW,
    Normalize,
    Pooling,
    StaticEmbedding,
    WordEmbeddings,
)
from sentence_transformers.sentence_transformer.modules.tokenizer import (
    WhitespaceTokenizer,
)
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor, TruncationWarning
from sklearn_torch_bridge.models._sentence_transformers import (
    _preprocess_5,
    st_told,
    wrap_sentence_transformer,
)
from tests import families

SAME = {"rtol": 0, "atol": 1e-6}


# Not normalised, values reach 1.5, and `encode` itself differs by 1e-6 by batch size.
PLAIN = {"rtol": 0, "atol": 3e-6}


def parts_of(minilm_path):
    """Return the modules of the model without the last one, which normalises."""
    whole = SentenceTransformer(minilm_path, device="cpu")
    return [part for part in whole if not isinstance(part, Normalize)]


def saved(model, folder):
    model.save_pretrained(str(folder))
    return str(folder)


@pytest.fixture(scope="module")
def sentence_transformer(minilm_path):
    return SentenceTransformer(minilm_path, device="cpu")


def test_a_name_equals_encode(minilm_path, texts):
    expected = SentenceTransformer(minilm_path, device="cpu").encode(texts)
    Z = TorchFeatureExtractor(f"st:{minilm_path}", batch_size=3).fit_transform(texts)
    np.testing.assert_allclose(Z, expected, **SAME)
    assert np.allclose(np.linalg.norm(Z, axis=1), 1)


def test_a_model_without_normalisation_equals_encode(minilm_path, texts, tmp_path):
    model = SentenceTransformer(modules=parts_of(minilm_path), device="cpu")
    Z = TorchFeatureExtractor(f"st:{saved(model, tmp_path / 'm')}").transform(texts)
    np.testing.assert_allclose(Z, model.encode(texts), **PLAIN)
    assert not np.allclose(np.linalg.norm(Z, axis=1), 1)


@pytest.mark.parametrize("include_prompt", [True, False])
def test_the_prompt_of_a_model_stands_before_each_text(
    minilm_path, texts, tmp_path, include_prompt
):
    model = SentenceTransformer(
        modules=parts_of(minilm_path),
        device="cpu",
        prompts={"query": "a question about trains: "},
        default_prompt_name="query",
    )
    (pooling,) = [part for part in model if isinstance(part, Pooling)]
    pooling.include_prompt = include_prompt
    expected = model.encode(texts)
    without = model.encode(texts, prompt="")
    assert np.abs(expected - without).max() > 0.01
    for given in (model, f"st:{saved(model, tmp_path / 'm')}"):
        Z = TorchFeatureExtractor(given, batch_size=3).transform(texts)
        np.testing.assert_allclose(Z, expected, **PLAIN)


def test_the_older_library_is_told_where_the_prompt_ends():
    class Older:
        tokenizer = SimpleNamespace(all_special_ids=[2, 3])

        def tokenize(self, texts):
            rows = [[2, *map(ord, text), 3] for text in texts]
            return {"input_ids": torch.tensor(rows)}

    features = _preprocess_5(Older(), ["b"], "a ", None)
    assert features["input_ids"].tolist() == [[2, 97, 32, 98, 3]]
    assert features["prompt_length"] == 3
    assert "prompt_length" not in _preprocess_5(Older(), ["b"], "", None)


def test_what_files_tell_of_a_model_is_what_it_tells(minilm_path, tmp_path):
    whole = SentenceTransformer(minilm_path, device="cpu", prompts={"query": "q: "})
    parts = SentenceTransformer(modules=parts_of(minilm_path), device="cpu")
    parts.default_prompt_name = "document"
    for model in (whole, parts):
        folder = saved(model, tmp_path / f"m{len(model)}")
        assert st_told(folder) == wrap_sentence_transformer(model).told
    assert wrap_sentence_transformer(whole).normalizes


def test_a_model_that_truncates_equals_encode(minilm_path, texts):
    model = SentenceTransformer(minilm_path, device="cpu", truncate_dim=64)
    Z = TorchFeatureExtractor(model).fit_transform(texts)
    np.testing.assert_allclose(Z, model.encode(texts), **SAME)
    assert Z.shape[1] == 64


@pytest.mark.parametrize("mode", ["cls", "max", "mean"])
def test_layers_are_pooled_as_the_model_pools(minilm_path, texts, mode):
    transformer, pooling = parts_of(minilm_path)
    pooling.pooling_mode = mode
    model = SentenceTransformer(modules=[transformer, pooling], device="cpu")
    last = "0.model.encoder.layer.5"
    Z = TorchFeatureExtractor(model, layer=last).transform(texts)
    np.testing.assert_allclose(Z, model.encode(texts), rtol=1e-5, atol=1e-5)


def test_a_name_that_is_not_there_says_what_to_do():
    with pytest.raises(ValueError, match=r"'st:no/such' must be a folder .* hub"):
        TorchFeatureExtractor("st:no/such").transform(["a"])


def test_code_in_the_folder_of_a_sentence_transformer_is_not_run(tmp_path):
    (tmp_path / "evil.py").write_text("raise SystemExit('code of a folder was run')")
    modules = [{"idx": 0, "name": "0", "path": "", "type": "evil.Evil"}]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ValueError, match=r"got 'evil\.Evil', whose code would have to"):
        TorchFeatureExtractor(f"st:{tmp_path}").transform(["a"])


def test_a_sentence_transformer_takes_texts_as_it_is(sentence_transformer, texts):
    extractor = TorchFeatureExtractor(sentence_transformer, batch_size=3)
    Z = extractor.fit_transform(texts)
    np.testing.assert_allclose(Z, sentence_transformer.encode(texts), rtol=0, atol=1e-5)
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
    with pytest.warns(TruncationWarning, match="row 0 lost 36 % of its 402 tokens"):
        Z = TorchFeatureExtractor(sentence_transformer).transform(texts)
    np.testing.assert_allclose(Z, sentence_transformer.encode(texts), rtol=0, atol=1e-5)


VOCABULARY = [
    "[PAD]",
    *[
        "what",
        "a",
        "lovely",
        "morning",
        "by",
        "the",
        "sea",
        "train",
        "late",
        "again",
        "ok",
    ],
]


def engine():
    """Return a tokenizer that is no object of transformers, and is not called."""
    ids = {word: place for place, word in enumerate(["[UNK]", *VOCABULARY])}
    made = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))  # noqa: S106 - no password
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made


def static():
    torch.manual_seed(0)
    return StaticEmbedding(engine(), embedding_dim=8)


def words():
    weights = np.random.default_rng(0).normal(size=(len(VOCABULARY), 8))
    tokenizer = WhitespaceTokenizer(VOCABULARY, stop_words=[])
    return WordEmbeddings(tokenizer, weights.astype(np.float32))


def convolution():
    torch.manual_seed(0)
    return CNN(8, 6)


class Letters(nn.Module):
    """A module of the caller's own, without a tokenizer."""

    @property
    def max_seq_length(self):
        msg = "nobody knows"
        raise RuntimeError(msg)

    def preprocess(self, inputs, prompt=None, **kwargs):
        del prompt, kwargs
        return {
            "counts": torch.tensor([[len(text), text.count("a")] for text in inputs])
        }

    def forward(self, features):
        return {**features, "sentence_embedding": features["counts"].float()}


@pytest.mark.parametrize(
    "make",
    [
        lambda: [static()],
        lambda: [static(), Normalize()],
        lambda: [BoW(vocab=VOCABULARY)],
        lambda: [words(), Pooling(8)],
        lambda: [words(), convolution(), Pooling(18)],
        lambda: [words(), LSTM(8, 6), Pooling(12)],
        lambda: [
            Router({"query": [static()], "document": [static()]}, default_route="query")
        ],
        lambda: [Letters()],
    ],
    ids=[
        *("static", "normalised", "bag of words", "words", "convolution", "recurrent"),
        *("router", "own module"),
    ],
)
@pytest.mark.parametrize("batch_size", [3, "auto"])
def test_models_with_any_tokenizer_or_none_equal_encode(make, batch_size, texts):
    model = SentenceTransformer(modules=make(), device="cpu")
    expected = model.encode(texts, batch_size=1)
    Z = TorchFeatureExtractor(model, batch_size=batch_size).transform(texts)
    np.testing.assert_allclose(Z, expected, **SAME)


def test_a_router_of_a_transformer_and_another_equals_encode(minilm_path, texts):
    query = StaticEmbedding(engine(), embedding_dim=384)
    document = parts_of(minilm_path)
    routes = Router({"query": [query], "document": document}, default_route="document")
    model = SentenceTransformer(modules=[routes], device="cpu")
    Z = TorchFeatureExtractor(model, batch_size=3).transform(texts)
    np.testing.assert_allclose(Z, model.encode(texts), **PLAIN)


def test_convolutions_over_tokens_do_not_see_padding(minilm_path, texts):
    torch.manual_seed(0)
    modules = [parts_of(minilm_path)[0], CNN(384, 6), Pooling(18)]
    model = SentenceTransformer(modules=modules, device="cpu")
    Z = TorchFeatureExtractor(model, batch_size=4).transform(texts)
    np.testing.assert_allclose(Z, model.encode(texts, batch_size=1), **PLAIN)


@pytest.fixture
def masked_model(tmp_path):
    """Save a masked language model, as sparse encoders are made of."""
    torch.manual_seed(0)
    config, _ = families.TEXTS["bert"]
    transformers.BertForMaskedLM(config).save_pretrained(tmp_path / "mlm")
    families.make_tokenizer().save_pretrained(tmp_path / "mlm")
    return str(tmp_path / "mlm")


@pytest.mark.parametrize("n_kept", [None, 3])
def test_a_sparse_encoder_gives_what_it_encodes(masked_model, n_kept, tmp_path):
    model = sentence_transformers.SparseEncoder(
        masked_model, device="cpu", max_active_dims=n_kept
    )
    rows = families.TEXT_ROWS
    expected = model.encode(rows, convert_to_sparse_tensor=False).numpy()
    assert n_kept is None or (expected != 0).sum(1).max() == n_kept
    model.save(str(tmp_path / "sparse"))
    for given in (model, model.encode, f"st:{tmp_path}/sparse"):
        Z = TorchFeatureExtractor(given, batch_size=2).transform(rows)
        np.testing.assert_allclose(Z, expected, **families.CLOSE)


@pytest.fixture
def cross_encoder(tmp_path):
    torch.manual_seed(0)
    config, _ = families.TEXTS["bert"]
    cls = transformers.BertForSequenceClassification
    config = type(config)(**{**config.to_dict(), "num_labels": 1})
    cls(config).save_pretrained(tmp_path / "scores")
    families.make_tokenizer().save_pretrained(tmp_path / "scores")
    return sentence_transformers.CrossEncoder(str(tmp_path / "scores"), device="cpu")


PAIRS = [["a b", "c"], ["d", "e f g"]]


def test_a_cross_encoder_says_what_to_do(cross_encoder, tmp_path):
    words = "A CrossEncoder scores pairs of texts instead"
    for model in (cross_encoder, cross_encoder.predict):
        for rows in (PAIRS, ["a", "b"]):
            with pytest.raises(TypeError, match=words):
                TorchFeatureExtractor(model).transform(rows)
    cross_encoder.save(str(tmp_path / "cross"))
    with pytest.raises(ValueError, match=words):
        TorchFeatureExtractor(f"st:{tmp_path}/cross").transform(["a"])


def test_a_cross_encoder_with_its_preprocess_scores_pairs(cross_encoder):
    extractor = TorchFeatureExtractor(
        cross_encoder, preprocess=cross_encoder.preprocess, output="scores"
    )
    scores = torch.sigmoid(torch.from_numpy(extractor.transform(PAIRS)))
    expected = cross_encoder.predict(PAIRS)
    np.testing.assert_allclose(scores.ravel(), expected, **families.CLOSE)


def test_the_encode_of_a_model_is_the_model(minilm_path, texts):
    model = SentenceTransformer(minilm_path, device="cpu")
    Z = TorchFeatureExtractor(model.encode).transform(texts)
    np.testing.assert_array_equal(Z, TorchFeatureExtractor(model).transform(texts))
    with pytest.raises(TypeError, match="must not be the method 'encode_query'"):
        TorchFeatureExtractor(model.encode_query).transform(texts)
