"""Texts that a tokenizer fails on: one row each, however many there are."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import BadRowWarning, ForwardError, TorchFeatureExtractor
from sklearn_torch_bridge._rows._refused_texts import why_refused, without_refused
from tests.families import make_tokenizer

BAD = "ok \ud83d bad"


def letters(texts):
    return {"input_ids": [list(text.encode()) for text in texts]}


def test_texts_without_a_fault_are_encoded_at_once():
    calls = []

    def encode(texts):
        calls.append(len(texts))
        return letters(texts)

    encoded, refused = without_refused(encode, ["a", "", "bc"])
    assert (encoded, refused) == ({"input_ids": [[97], [], [98, 99]]}, {})
    assert calls == [3]


def test_what_fails_only_together_is_raised():
    def encode(texts):
        if len(texts) > 1:
            msg = "too many"
            raise ValueError(msg)
        return letters(texts)

    with pytest.raises(ValueError, match="too many"):
        without_refused(encode, ["a", "b"])


@pytest.fixture(params=["hf", "st", "object", "tokenizer"])
def extractor(request, minilm_path, tokenizer):
    if request.param == "tokenizer":
        torch.manual_seed(0)
        return TorchFeatureExtractor(nn.Embedding(30_522, 2), preprocess=tokenizer)
    if request.param == "object":
        library = pytest.importorskip("sentence_transformers")
        return TorchFeatureExtractor(library.SentenceTransformer(minilm_path))
    return TorchFeatureExtractor(f"{request.param}:{minilm_path}")


@pytest.mark.parametrize("with_cache", [False, True], ids=["plain", "cache"])
def test_a_text_with_a_lone_surrogate_is_one_bad_row(extractor, cache, with_cache):
    texts = ["fine", BAD, "as fine as the first", BAD]
    extractor.set_params(cache=cache if with_cache else None)
    with pytest.raises(ForwardError, match=r"failed on rows? 1"):
        extractor.transform(texts)
    extractor.set_params(on_error="nan")
    with pytest.warns(BadRowWarning, match="rows 1, 3 of"):
        Z = extractor.fit_transform(texts)
    assert np.flatnonzero(np.isnan(Z).any(1)).tolist() == [1, 3]
    expected = extractor.transform([texts[0], texts[2]])
    np.testing.assert_allclose(Z[[0, 2]], expected, rtol=1e-5, atol=1e-5)
    with pytest.warns(BadRowWarning, match="row 0 of"):
        assert np.isnan(extractor.transform([BAD])).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ok \ud83d bad", r"character 3 is '\\ud83d'"),
        ("\udc80", r"character 0 is '\\udc80'.*replace"),
        ("a\udfff\ud800", r"character 1 is '\\udfff'"),
        ("\U0001f600", "ValueError: other"),
        (1, "ValueError: other"),
    ],
)
def test_half_of_a_pair_is_named_with_its_place(text, words):
    assert re.search(words, why_refused(text, ValueError("other")))


@pytest.mark.parametrize("own", [False, True], ids=["tokenizer", "preprocess"])
def test_a_text_with_half_of_a_pair_is_named(own):
    tokenizer = make_tokenizer()

    def prepare(texts):
        return tokenizer(texts, padding=True, return_tensors="pt")["input_ids"]

    preprocess = prepare if own else tokenizer
    extractor = TorchFeatureExtractor(nn.Embedding(200, 2), preprocess=preprocess)
    with pytest.raises(ForwardError, match=r"row 1: its character 3 is '\\ud83d'"):
        extractor.transform(["good", BAD])
