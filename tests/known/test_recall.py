"""What a cache changes: how often a row runs, never what it becomes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch import nn

from sklearn_torch_bridge import (
    BadRowWarning,
    EmbeddingCache,
    FingerprintError,
    ForwardError,
    TorchFeatureExtractor,
)
from sklearn_torch_bridge._digest import content_digests
from sklearn_torch_bridge._known import Recall, RememberingSink, _recall
from tests.tiny_models import Counting, Doubling, Failing, Returning, Tokens, mlp

ROOT = Path(__file__).parents[2]


@pytest.fixture
def X(rng):
    return rng.normal(size=(40, 4)).astype(np.float32)


def counted(inner=None):
    """Give a module with its counter of rows."""
    module = Counting(inner or mlp())
    return module, module.tally


def test_a_row_runs_once_in_any_order_and_batch(X, cache, rng):
    module, tally = counted()
    extractor = TorchFeatureExtractor(module, cache=cache)
    Z = extractor.fit_transform(X)
    order = rng.permutation(40)
    again = clone(extractor).set_params(batch_size=3).transform(X[order])
    np.testing.assert_array_equal(again, Z[order])
    np.testing.assert_array_equal(extractor.fit(X[5:]).transform(X[7:9]), Z[7:9])
    assert tally.rows == 40


def test_equal_rows_of_one_call_run_once(X, cache):
    module, tally = counted()
    twice = np.concatenate([X, X[::-1]])
    Z = TorchFeatureExtractor(module, cache=cache).transform(twice)
    np.testing.assert_array_equal(Z[:40], Z[40:][::-1])
    assert tally.rows == 40


@pytest.mark.parametrize("n_known", [0, 1, 17, 40])
def test_known_and_new_rows_land_where_they_belong(X, cache, n_known):
    module, tally = counted()
    extractor = TorchFeatureExtractor(module, cache=cache, batch_size=8)
    known = np.sort(np.random.default_rng(1).choice(40, n_known, replace=False))
    if n_known:
        extractor.transform(X[known])
    Z = extractor.transform(X)
    expected = TorchFeatureExtractor(mlp()).transform(X)
    np.testing.assert_allclose(Z, expected, rtol=1e-5, atol=1e-6)
    assert tally.rows == 40


@pytest.mark.parametrize("n_known", [0, 1, 17, 40])
def test_rows_are_looked_up_some_at_a_time(X, cache, monkeypatch, n_known):
    """What the first lookup has found tells those after it what rows look like."""
    monkeypatch.setattr(_recall, "_ROWS_AT_ONCE", 7)
    module, tally = counted(Doubling(3))
    extractor = TorchFeatureExtractor(
        module, cache=cache, layer=["inner.blocks.0", "inner.blocks.2"]
    )
    if n_known:
        extractor.transform(X[40 - n_known :])
    for _ in range(2):
        Z = extractor.transform(X)
        np.testing.assert_array_equal(Z, np.hstack([2 * X, 8 * X]))
    assert tally.rows == 40


@pytest.mark.parametrize(
    "parameters",
    [
        {"layer": ["inner.act", "inner.first"]},
        {"layer": "inner.*"},
        {"dtype": "float64"},
        {"dtype": None},
        {"pooling": None},
        {"device": ["cpu", "cpu"], "num_workers": 2},
        {"precision": "bfloat16"},
    ],
    ids=str,
)
def test_cached_equals_uncached_in_every_setting(X, cache, parameters):
    module, tally = counted()
    extractor = TorchFeatureExtractor(module, cache=cache).set_params(**parameters)
    Z = extractor.fit_transform(X)
    plain = clone(extractor).set_params(cache=None)
    np.testing.assert_array_equal(Z, plain.fit_transform(X), strict=True)
    before = tally.rows
    warm = clone(extractor)
    np.testing.assert_array_equal(warm.fit_transform(X), Z, strict=True)
    names = [one.get_feature_names_out().tolist() for one in (warm, plain)]
    assert names[0] == names[1]
    assert tally.rows == before


def test_layers_are_shared_by_settings_that_name_them(X, cache):
    module, tally = counted(Doubling(3))
    both = TorchFeatureExtractor(
        module, cache=cache, layer=["inner.blocks.2", "inner.blocks.0"]
    )
    both.transform(X)
    for layer, factor in (("inner.blocks.0", 2), ("inner.blocks.2", 8)):
        Z = clone(both).set_params(layer=layer).transform(X)
        np.testing.assert_array_equal(Z, X * factor)
    assert tally.rows == 40


def test_texts_are_known_again(cache, tokenizer, texts):
    torch.manual_seed(0)
    module = Tokens()
    extractor = TorchFeatureExtractor(module, preprocess=tokenizer, cache=cache)
    Z = extractor.transform(texts)
    np.testing.assert_array_equal(extractor.transform(texts[::-1]), Z[::-1])
    assert len(cache) == len(set(texts))


# What must never be mixed up ---------------------------------------------------------


@given(
    rows=st.lists(st.integers(0, 5), min_size=1, max_size=12),
    dtype=st.sampled_from(["float32", "float64", "int64"]),
)
def test_rows_are_told_apart_by_content_and_dtype(rows, dtype, tmp_path_factory):
    X = np.array(rows, dtype)[:, None]
    path = tmp_path_factory.mktemp("cache") / "cache.db"
    with EmbeddingCache(path) as cache:
        extractor = TorchFeatureExtractor(Doubling(1), cache=cache)
        np.testing.assert_array_equal(extractor.transform(X), 2 * X)
        assert len(cache) == len(set(rows))
        np.testing.assert_array_equal(extractor.transform(X[::-1]), 2 * X[::-1])
        assert len(cache) == len(set(rows))


def test_what_cannot_be_identified_asks_for_a_key(X, cache, tmp_path):
    with (tmp_path / "log").open("w") as log:
        module = Returning(lambda x: x + log.tell())
        extractor = TorchFeatureExtractor(module, cache=cache)
        with pytest.raises(FingerprintError, match="cache_key"):
            extractor.transform(X)
        for key in ("1", "2"):
            Z = extractor.set_params(cache_key=key).transform(X)
            np.testing.assert_array_equal(Z, X)
    assert len(cache) == 80


# What is kept ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "as_path", [str, Path, EmbeddingCache], ids=lambda t: t.__name__
)
def test_a_cache_may_be_given_by_its_path(X, cache_path, as_path):
    module, tally = counted()
    for _ in range(2):
        TorchFeatureExtractor(module, cache=as_path(cache_path)).transform(X)
    assert tally.rows == 40


def test_what_is_no_cache_is_refused(X):
    with pytest.raises(TypeError, match="`cache` must be a path, an EmbeddingCache"):
        TorchFeatureExtractor(mlp(), cache=3).transform(X)
    with pytest.raises(TypeError, match="`cache_key` must be a str or None, got 3"):
        TorchFeatureExtractor(mlp(), cache_key=3).transform(X)


# Searches ----------------------------------------------------------------------------


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_search_scores_as_without_a_cache(X, cache_path, n_jobs):
    y = (X[:, 0] > 0).astype(int)
    pipe = make_pipeline(TorchFeatureExtractor(mlp()), LogisticRegression())
    grid = {
        "logisticregression__C": [0.1, 1.0],
        "torchfeatureextractor__layer": ["first", None],
    }
    plain = GridSearchCV(pipe, grid, cv=3, error_score="raise").fit(X, y)
    pipe.set_params(torchfeatureextractor__cache=str(cache_path))
    search = GridSearchCV(pipe, grid, cv=3, error_score="raise", n_jobs=n_jobs)
    search.fit(X, y)
    np.testing.assert_allclose(
        search.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"]
    )
    assert len(EmbeddingCache(cache_path)) == 2 * 40


def test_a_search_sends_each_row_through_the_model_once(X, cache_path):
    module, tally = counted()
    y = (X[:, 0] > 0).astype(int)
    extractor = TorchFeatureExtractor(module, cache=cache_path)
    pipe = make_pipeline(extractor, LogisticRegression())
    grid = {"logisticregression__C": [0.01, 0.1, 1, 10, 100]}
    GridSearchCV(pipe, grid, cv=5).fit(X, y)
    assert tally.rows == 40
    GridSearchCV(pipe, grid, cv=4).fit(X[::-1], y[::-1])
    assert tally.rows == 40


NEW_PROCESS = """
import sys
import numpy as np, torch
from sklearn_torch_bridge import TorchFeatureExtractor
import tests.known.test_recall as here

module, tally = here.counted()
X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
extractor = TorchFeatureExtractor(module, cache=sys.argv[1])
print(float(extractor.transform(X).sum()), tally.rows)
"""


def test_another_process_finds_the_rows(X, cache_path):
    module, tally = counted()
    Z = TorchFeatureExtractor(module, cache=cache_path).transform(X)
    assert tally.rows == 40
    told = subprocess.run(
        [sys.executable, "-c", NEW_PROCESS, str(cache_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "2"},
    ).stdout.split()
    assert told == [str(float(Z.sum())), "0"]


def test_an_interrupted_run_keeps_what_is_done(X, cache):
    X[33, 0] = 50
    module = nn.Sequential(Counting(), Failing(40))
    extractor = TorchFeatureExtractor(module, cache=cache, batch_size=8)
    with pytest.raises(ForwardError, match="on row 33"):
        extractor.transform(X)
    assert len(cache) == 32
    module[0].tally.sizes.clear()
    extractor.transform(X[:33])
    assert module[0].tally.rows == 1


def test_bad_rows_are_never_kept(X, cache):
    X[5, 0] = 50
    extractor = TorchFeatureExtractor(Failing(40), cache=cache, on_error="nan")
    for _ in range(2):
        with pytest.warns(BadRowWarning, match="row 5 of"):
            Z = extractor.transform(X)
        assert np.flatnonzero(np.isnan(Z).any(1)).tolist() == [5]
    assert len(cache) == 39


class Listed:
    """A sink that lists what it gets."""

    def __init__(self):
        self.batches = []

    def write(self, rows, pieces):
        self.batches.append((rows, pieces))
        return 7

    def caller_rows(self, rows):
        return rows


@pytest.mark.parametrize("rows", [slice(1, 3), np.array([2, 0])], ids=["slice", "rows"])
def test_a_batch_is_stored_under_the_keys_of_its_rows_and_passed_on(cache, rows):
    contents = content_digests(["a", "b", "c", "d"])
    recall = Recall(cache, [b"f", b"g"], contents, b"model")
    which, sink = np.array([3, 1, 0]), Listed()
    pieces = [torch.ones(2, 3), torch.zeros(2, 1)]
    remembering = RememberingSink(
        recall, which, np.dtype("float64"), sink, sink.caller_rows
    )
    assert remembering.write(rows, pieces) == 7
    assert remembering.caller_rows(rows) is rows
    assert sink.batches == [(rows, pieces)]
    found = list(recall.found(np.arange(4)))
    assert [one.tolist() for one, *_ in found] == [sorted(which[rows])]
    np.testing.assert_array_equal(found[0][1][0], np.ones((2, 3)), strict=True)
    np.testing.assert_array_equal(found[0][1][1], np.zeros((2, 1)), strict=True)


def test_without_another_sink_rows_are_stored_and_counted(cache):
    recall = Recall(cache, [b"f"], content_digests(["a", "b"]), b"model")
    sink = RememberingSink(
        recall, np.array([1]), None, None, np.array([7, 9]).__getitem__
    )
    assert sink.write(slice(0, 1), [torch.ones(1, 3)]) == 1
    assert sink.caller_rows(slice(0, 1)).tolist() == [7]
    assert len(cache) == 1
