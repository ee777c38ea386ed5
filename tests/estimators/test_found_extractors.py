"""Wherever extractors stand, rows that are the same run once, in one pass."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler

from sklearn_torch_bridge import (
    EmbeddingCache,
    TensorToArray,
    TorchFeatureExtractor,
    precompute,
)
from tests.tiny_models import Counting, Doubling

LAYERS = ["inner.blocks.0", "inner.blocks.1", "inner.blocks.2"]
ALL = [0, 1, 2, 3]


def doubled(X):
    return np.asarray(X) * 2


def reversed_rows(X):
    return np.asarray(X)[::-1]


class Selector(TransformerMixin, BaseEstimator):
    """Selects columns, without learning anything."""

    def __init__(self, columns=None):
        self.columns = columns

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X[:, self.columns]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        return tags


def union(part):
    return FeatureUnion([("a", part), ("b", "passthrough"), ("c", "drop")])


def columns(part, chosen=ALL, remainder="drop"):
    return ColumnTransformer([("a", part, chosen)], remainder=remainder)


WRAPS = {
    "alone": lambda e: e,
    "columns": columns,
    "a slice": lambda e: columns(e, slice(0, 4)),
    "a mask": lambda e: columns(e, np.array([True] * 4)),
    "a function": lambda e: columns(e, lambda X: ALL),
    "a remainder": lambda e: ColumnTransformer([], remainder=e),
    "another part": lambda e: ColumnTransformer(
        [("a", e, ALL), ("b", StandardScaler(), [0]), ("c", "drop", [1])]
    ),
    "a union": union,
    "a union of columns": lambda e: union(columns(e)),
    "columns of a union": lambda e: columns(union(e)),
    "behind a function": lambda e: make_pipeline(FunctionTransformer(doubled), e),
    "behind tensors": lambda e: make_pipeline(TensorToArray(), e),
    "behind a selector": lambda e: make_pipeline(Selector(ALL), e),
    "behind a normalizer": lambda e: make_pipeline(Normalizer(), e),
    "behind columns": lambda e: make_pipeline(columns("passthrough"), e),
    "behind a union": lambda e: make_pipeline(
        FeatureUnion([("a", FunctionTransformer(doubled))]), e
    ),
    "behind a pipeline": lambda e: make_pipeline(
        make_pipeline(FunctionTransformer(doubled), "passthrough"), e
    ),
    "nested": lambda e: make_pipeline(
        "passthrough", make_pipeline(columns(make_pipeline(TensorToArray(), e)))
    ),
}


@pytest.fixture
def X(rng):
    return rng.normal(size=(100, 4)).astype(np.float32)


@pytest.fixture
def y(X):
    return (X[:, 0] > 0).astype(int)


@pytest.fixture
def model():
    return Counting(Doubling(3))


@pytest.fixture
def extractor(model, cache):
    return TorchFeatureExtractor(model, cache=cache)


def search_over(front):
    prefix = next(
        name.removesuffix("layer")
        for name, value in make_pipeline(front).get_params().items()
        if name.endswith("layer")
    )
    pipe = make_pipeline(front, StandardScaler(), LogisticRegression())
    grid = {f"{prefix}layer": LAYERS, "logisticregression__C": [0.1, 1]}
    return GridSearchCV(pipe, grid, cv=2, error_score="raise")


KINDS = {"array": lambda X: X, "frame": partial(pd.DataFrame, columns=[*"abcd"])}
CASES = [(wrap, kind) for wrap in WRAPS for kind in KINDS]
CASES.remove(("behind a selector", "frame"))  # it selects of arrays


@pytest.mark.parametrize(("wrap", "kind"), CASES, ids=str)
def test_a_search_needs_one_pass(extractor, X, wrap, kind):
    model, rows = extractor.model, KINDS[kind](X)
    search = search_over(WRAPS[wrap](extractor))
    done = precompute(search, rows)
    assert (done.n_settings, done.n_passes, done.n_run) == (3, 1, 100)
    assert model.tally.rows == 100
    model.tally.sizes.clear()
    search.fit(rows, X[:, 0] > 0)
    assert model.tally.rows == 0


def test_columns_that_a_selector_finds_are_one_set_of_rows(model, extractor, X):
    """Each candidate has its own copy of the selector."""
    frame = pd.DataFrame(X, columns=[*"abcd"]).assign(text="x")
    numbers = make_column_selector(dtype_include="number")
    search = search_over(columns(extractor, numbers))
    assert precompute(search, frame).n_passes == 1
    assert model.tally.rows == 100


def test_two_parts_of_one_estimator_share_a_pass(model, extractor, X):
    def other(layer):
        return TorchFeatureExtractor(model, cache=extractor.cache, layer=layer)

    both = ColumnTransformer(
        [("a", other(LAYERS[0]), ALL), ("b", other(LAYERS[1]), slice(0, 4))]
    )
    done = precompute(both, X)
    assert (done.n_settings, done.n_passes, done.n_run) == (2, 1, 100)


def test_the_order_of_equal_rows_is_no_difference(model, extractor, X):
    both = FeatureUnion(
        [
            ("a", TorchFeatureExtractor(model, cache=extractor.cache)),
            (
                "b",
                Pipeline(
                    [
                        ("turn", FunctionTransformer(reversed_rows)),
                        ("take", TorchFeatureExtractor(model, cache=extractor.cache)),
                    ]
                ),
            ),
        ]
    )
    done = precompute(both, X)
    assert (done.n_settings, done.n_passes, done.n_run) == (1, 1, 100)
    assert model.tally.rows == 100


def test_other_rows_are_another_pass(model, extractor, X):
    both = ColumnTransformer([("a", extractor, [0, 1]), ("b", extractor, [2, 3])])
    done = precompute(both, X)
    assert (done.n_passes, done.n_run) == (2, 200)
    both.fit_transform(X)
    assert model.tally.rows == 200


def test_a_part_that_a_search_leaves_out_is_left_out(model, extractor, X, y):
    pipe = make_pipeline(union(extractor), LogisticRegression())
    grid = {"featureunion__a": [extractor, "drop", "passthrough", StandardScaler()]}
    search = GridSearchCV(pipe, grid, cv=2, error_score="raise")
    assert precompute(search, X).n_run == 100
    model.tally.sizes.clear()
    search.fit(X, y)
    assert model.tally.rows == 0


def test_columns_that_are_learnt_by_a_part_are_not_known(extractor, X):
    behind = make_pipeline(
        ColumnTransformer([("a", StandardScaler(), [0])], remainder="passthrough"),
        extractor,
    )
    with pytest.raises(ValueError, match="behind the step 'columntransformer'"):
        precompute(behind, X)


@pytest.mark.parametrize(
    "make", [list, csr_array, torch.tensor], ids=["list", "sparse", "tensor"]
)
def test_rows_of_other_kinds_are_shared_too(cache_path, X, make):
    rows = make(X.tolist() if make is list else X)
    model = Counting(Doubling(3))
    with EmbeddingCache(cache_path) as cache:
        extractor = TorchFeatureExtractor(model, cache=cache)
        search = search_over(union(extractor))
        search.estimator.set_params(featureunion__b="drop")
        done = precompute(search, rows)
        assert (done.n_passes, done.n_run) == (1, 100)
