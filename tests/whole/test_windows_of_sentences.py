"""Long texts in windows through models of sentence-transformers."""

import numpy as np
import pytest
import torch
import transformers as t
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (
    Normalize,
    Pooling,
    Transformer,
    WordEmbeddings,
)
from sentence_transformers.sentence_transformer.modules.tokenizer import (
    WhitespaceTokenizer,
)
from sklearn.base import clone

from sklearn_torch_bridge import TorchFeatureExtractor, Windows
from tests.families import TEXT, WORDS, make_tokenizer

CLOSE = {"rtol": 0, "atol": 1e-5}
SIZE = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    t.AutoModel.from_config(t.BertConfig(**TEXT)).eval().save_pretrained(folder)
    tokenizer = make_tokenizer()
    tokenizer.model_max_length = SIZE
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def long_texts():
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS[4:], n)) for n in (3, 57, 10, 27, 1, 20)]


def model_of(
    folder, *, pooling="mean", includes=True, normalizes=False, side="right", **options
):
    parts = [Transformer(folder), Pooling(16, pooling, include_prompt=includes)]
    parts += [Normalize()] * normalizes
    parts[0].tokenizer.padding_side = side
    return SentenceTransformer(modules=parts, device="cpu", **options)


def by_hand(model, text, prompt=""):
    """Encode the parts of a text, each behind the prompt, and average them."""
    words, n_prompt = text.split(), len(prompt.split())
    room = SIZE - 2 - n_prompt
    parts = [words[at : at + room] for at in range(0, len(words), room)]
    width = model.truncate_dim
    model.truncate_dim = None
    whole = [" ".join(part) for part in parts]
    found = model.encode(whole, prompt=prompt, batch_size=1)
    model.truncate_dim = width
    n_around = 2 + n_prompt if model[1].include_prompt else 1
    weights = np.array([len(part) + n_around for part in parts])
    mean = (found * weights[:, None]).sum(0) / weights.sum()
    if len(model) > 2:
        mean /= np.linalg.norm(mean)
    return mean[:width]


@pytest.mark.parametrize("includes", [True, False], ids=["pooled", "not pooled"])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
def test_each_window_stands_behind_the_prompt(
    folder, long_texts, pooling, side, includes
):
    model = model_of(
        folder, pooling=pooling, side=side, includes=includes, normalizes=True
    )
    Z = TorchFeatureExtractor(
        model, prompt="a b c ", too_long="windows", batch_size=4
    ).transform(long_texts)
    expected = [by_hand(model, text, "a b c ") for text in long_texts]
    np.testing.assert_allclose(Z, expected, **CLOSE)


@pytest.mark.parametrize("normalizes", [True, False], ids=["unit", "plain"])
@pytest.mark.parametrize("width", [None, 5])
def test_the_mean_has_length_1_where_vectors_have(
    folder, long_texts, normalizes, width
):
    model = model_of(folder, normalizes=normalizes, truncate_dim=width)
    extractor = TorchFeatureExtractor(model, too_long="windows", batch_size=4)
    expected = [by_hand(model, text) for text in long_texts]
    np.testing.assert_allclose(extractor.transform(long_texts), expected, **CLOSE)
    narrow = extractor.set_params(truncate_dim=3).transform(long_texts)
    first = np.array(expected)[:, :3]
    if normalizes:
        first /= np.linalg.norm(first, axis=1, keepdims=True)
    np.testing.assert_allclose(narrow, first, **CLOSE)


def test_layers_leave_out_what_the_model_does_not_pool(folder, long_texts):
    vectors = TorchFeatureExtractor(
        model_of(folder, includes=False),
        prompt="a b c ",
        too_long="windows",
        batch_size=4,
    )
    layer = clone(vectors).set_params(layer="0", output="token_embeddings")
    np.testing.assert_allclose(
        layer.transform(long_texts), vectors.transform(long_texts), **CLOSE
    )


def test_rows_of_tokens_are_those_of_all_windows(folder, long_texts):
    model = model_of(folder)
    extractor = TorchFeatureExtractor(
        model,
        output="token_embeddings",
        pooling=None,
        too_long=Windows(overlap=2),
        batch_size=4,
    )
    Z = extractor.transform(long_texts)
    n_windows = [1, 7, 1, 4, 1, 3]
    lengths = [len(text.split()) for text in long_texts]
    expected = [n + 2 * count for n, count in zip(lengths, n_windows, strict=True)]
    assert [len(row) for row in Z] == expected
    first = " ".join(long_texts[1].split()[:10])
    own = model.encode([first], output_value="token_embeddings")[0]
    np.testing.assert_allclose(Z[1][:12], own, **CLOSE)


def test_a_name_has_windows_and_where_all_fit_nothing_is_different(
    folder, long_texts, tmp_path
):
    model = model_of(folder, normalizes=True)
    model.save_pretrained(str(tmp_path / "st"))
    named = TorchFeatureExtractor(f"st:{tmp_path / 'st'}", batch_size=4)
    named.set_params(too_long="windows")
    expected = [by_hand(model, text) for text in long_texts]
    np.testing.assert_allclose(named.transform(long_texts), expected, **CLOSE)
    fitting = [text for text in long_texts if len(text.split()) <= SIZE - 2]
    windows = named.transform(fitting)
    cut = named.set_params(too_long="cut").transform(fitting)
    np.testing.assert_array_equal(windows, cut)


def test_the_model_stays_as_it_was_lent(folder, long_texts):
    model = model_of(folder)
    before = dict(vars(model[0])), model.max_seq_length, model.tokenizer.padding_side
    TorchFeatureExtractor(model, too_long="windows").transform(long_texts)
    after = dict(vars(model[0])), model.max_seq_length, model.tokenizer.padding_side
    assert after[1:] == before[1:]
    assert after[0].keys() == before[0].keys()


@pytest.mark.parametrize("longest", [5, None])
def test_a_model_that_cuts_words_of_its_own_has_no_windows(long_texts, rng, longest):
    vectors = rng.normal(size=(len(WORDS), 8)).astype("float32")
    words = WordEmbeddings(WhitespaceTokenizer(WORDS, stop_words=set()), vectors)
    if longest is not None:
        words.max_seq_length = longest
    model = SentenceTransformer(modules=[words, Pooling(8)], device="cpu")
    extractor = TorchFeatureExtractor(model, too_long="windows")
    if longest is None:
        Z = extractor.transform(long_texts)
        np.testing.assert_allclose(Z, model.encode(long_texts), **CLOSE)
        return
    with pytest.raises(ValueError, match=r"no tokenizer of transformers.* 5 tokens"):
        extractor.transform(long_texts)
    extractor.set_params(too_long="cut").transform(long_texts)


def test_a_module_that_prepares_texts_in_a_way_of_its_own_is_refused(
    folder, long_texts
):
    class Backwards(Transformer):
        def preprocess(self, inputs, **options):
            turned = [" ".join(text.split()[::-1]) for text in inputs]
            return super().preprocess(turned, **options)

    model = SentenceTransformer(modules=[Backwards(folder), Pooling(16)], device="cpu")
    extractor = TorchFeatureExtractor(model, too_long="windows")
    with pytest.raises(ValueError, match="makes other ids of them"):
        extractor.transform(long_texts)
    extractor.transform(long_texts[:1])
