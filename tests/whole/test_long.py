"""What takes longer than `make test` should: many rows, many runs, many examples."""

import gc
import sys
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sentence_transformers import SentenceTransformer
from sklearn.base import clone

from sklearn_torch_bridge import TorchFeatureExtractor
from tests.tiny_models import Doubling, Tokens, cnn, mlp

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
BATCHES = st.integers(1, 40)


def tweets(n_samples, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from _tweets import tweets as load

    return load(n_samples)


def test_five_hundred_tweets_equal_sentence_transformers(minilm_path, monkeypatch):
    texts = tweets(500, monkeypatch)
    expected = SentenceTransformer(minilm_path, device="cpu").encode(texts)
    Z = TorchFeatureExtractor(f"hf:{minilm_path}").transform(texts)
    Z /= np.linalg.norm(Z, axis=1, keepdims=True)
    np.testing.assert_allclose(Z, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("normalised", [True, False])
def test_five_hundred_tweets_equal_encode(
    minilm_path, monkeypatch, tmp_path, normalised
):
    """In other batches: `encode` differs by as much between two of its batch sizes."""
    texts = tweets(500, monkeypatch)
    model = SentenceTransformer(minilm_path, device="cpu")
    if not normalised:
        model = SentenceTransformer(modules=list(model)[:-1], device="cpu")
    model.save_pretrained(str(tmp_path))
    expected = model.encode(texts)
    Z = TorchFeatureExtractor(f"st:{tmp_path}").transform(texts)
    assert np.allclose(np.linalg.norm(Z, axis=1), 1) == normalised
    atol = 1e-6 * max(1, np.abs(expected).max())
    np.testing.assert_allclose(Z, expected, rtol=0, atol=atol)


@settings(max_examples=2_000)
@given(
    X=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 40), st.just(4)),
        elements=st.floats(-9, 9, width=32),
    ),
    batch_size=BATCHES,
    layer=st.sampled_from([None, "first", "act", ["second", "first"]]),
    seed=st.integers(0, 99),
)
def test_no_way_of_cutting_or_ordering_changes_a_row(X, batch_size, layer, seed):
    extractor = TorchFeatureExtractor(mlp(), layer=layer, batch_size=batch_size)
    Z = extractor.transform(X)
    order = np.random.default_rng(seed).permutation(len(X))
    largest = np.abs(Z).max(initial=1)
    alone = np.concatenate([extractor.transform(X[[row]]) for row in order[:3]])
    assert np.abs(extractor.transform(X[order]) - Z[order]).max() <= 1e-5 * largest
    assert np.abs(alone - Z[order[:3]]).max() <= 1e-5 * largest


@settings(max_examples=300)
@given(
    texts=st.lists(st.text("abc .", min_size=1, max_size=60), min_size=1, max_size=30),
    batch_size=BATCHES,
)
def test_no_batch_changes_a_text(texts, batch_size, tokenizer):
    torch.manual_seed(0)
    module = Tokens()
    extractor = TorchFeatureExtractor(
        module, preprocess=tokenizer, batch_size=batch_size
    )
    Z = extractor.transform(texts)
    alone = np.concatenate([extractor.transform([text]) for text in texts])
    np.testing.assert_allclose(Z, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("model", [mlp, cnn], ids=["table", "images"])
def test_a_thousand_runs_leave_nothing_behind(model):
    module = model()
    shape = (40, 4) if model is mlp else (40, 3, 8, 8)
    X = np.ones(shape, np.float32)
    broken = np.ones((2, 9), np.float32)
    extractor = TorchFeatureExtractor(module, batch_size=7)
    process = psutil.Process()

    def run(times):
        for _ in range(times):
            copy = clone(extractor)
            copy.fit_transform(X)
            with pytest.raises(Exception, match=r"."):
                copy.transform(broken)
        gc.collect()

    run(100)
    memory, files = process.memory_info().rss, process.num_fds()
    threads, objects = threading.active_count(), len(gc.get_objects())
    run(1_000)
    assert process.memory_info().rss - memory < 20e6
    assert process.num_fds() <= files
    assert threading.active_count() <= threads
    assert len(gc.get_objects()) - objects < 500
    assert not any(part._forward_hooks for part in module.modules())


def test_many_threads_on_one_module():
    module = Doubling(8)
    X = np.arange(300.0).reshape(100, 3)
    wrong = []

    def work(block):
        extractor = TorchFeatureExtractor(module, layer=f"blocks.{block}", batch_size=3)
        expected = X * 2 ** (block + 1)
        found = (extractor.transform(X) for _ in range(100))
        wrong.extend(block for Z in found if not np.array_equal(Z, expected))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(block,)) for block in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []
