"""Rows that are under way together, and what a part of them leaves."""

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import EmbeddingCache, TorchFeatureExtractor
from sklearn_torch_bridge._estimators import _windowed_runs
from tests.families import WORDS, make_tokenizer


class Ends(nn.Module):
    """Fails from some forward on."""

    def __init__(self, n_forwards):
        super().__init__()
        self.embed = nn.Embedding(len(WORDS), 4)
        self.left = lambda: n_forwards

    def forward(self, input_ids, attention_mask):
        self.left.done = getattr(self.left, "done", 0) + 1
        if self.left.done > self.left():
            msg = "no more"
            raise RuntimeError(msg)
        return self.embed(input_ids)


@pytest.fixture
def windowed(monkeypatch, rng):
    monkeypatch.setattr(_windowed_runs, "_VALUES", 200)
    monkeypatch.setattr(_windowed_runs, "_WINDOWS", 5)
    tokenizer = make_tokenizer()
    texts = [" ".join(rng.choice(WORDS[4:], int(n))) for n in rng.integers(1, 99, 30)]

    def extractor(model, **options):
        return TorchFeatureExtractor(
            model, preprocess=tokenizer, too_long="windows", **options
        )

    return extractor, texts


def test_rows_that_run_in_parts_are_those_of_one_part(windowed, monkeypatch):
    extractor, texts = windowed
    model = Ends(10**9)
    in_parts = extractor(model).transform(texts)
    monkeypatch.setattr(_windowed_runs, "_VALUES", 10**9)
    np.testing.assert_allclose(in_parts, extractor(model).transform(texts), atol=1e-6)


def test_an_interrupted_run_keeps_the_parts_before(windowed, cache_path):
    extractor, texts = windowed
    model = Ends(12)
    with pytest.raises(RuntimeError, match="no more"):
        extractor(model, cache=cache_path, cache_key="a").transform(texts)
    with EmbeddingCache(cache_path) as cache:
        assert 0 < cache.stats()["rows"] < len(texts)


class Refusing(Ends):
    """Fails on a letter."""

    def forward(self, input_ids, attention_mask):
        if bool((input_ids == WORDS.index("a")).any()):
            msg = "no such token"
            raise RuntimeError(msg)
        return super().forward(input_ids, attention_mask)


def test_bad_rows_are_those_of_all_parts(windowed):
    extractor, texts = windowed
    texts = [text.replace("a", "b") for text in texts]
    texts[7] += " a"
    texts[25] += " a"
    with pytest.warns(UserWarning, match="rows 7, 25 of `X`"):
        Z = extractor(Refusing(10**9), on_error="nan").transform(texts)
    assert np.flatnonzero(np.isnan(Z).all(1)).tolist() == [7, 25]
    assert torch.from_numpy(Z).isnan().any(1).sum() == 2


def test_rows_that_fail_alike_are_tried_where_a_part_before_has_passed(windowed):
    extractor, texts = windowed
    good = [text.replace("a", "b") for text in texts[:10]]
    bad = [" ".join(["a"] * (3 + row)) for row in range(60)]
    with pytest.warns(UserWarning, match="rows 10 to 69 of `X`"):
        Z = extractor(Refusing(10**9), on_error="nan").transform(good + bad)
    assert np.isnan(Z).all(1).tolist() == [False] * 10 + [True] * 60
