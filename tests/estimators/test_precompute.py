import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import uniform
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import StackingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - it is new
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    HalvingRandomSearchCV,
    RandomizedSearchCV,
)
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn

from sklearn_torch_bridge import (
    EmbeddingCache,
    ForwardError,
    TensorToArray,
    TorchFeatureExtractor,
    precompute,
    share,
)
from tests.tiny_models import Counting, Doubling, Tokens, mlp

LAYERS = ["inner.blocks.0", "inner.blocks.1", "inner.blocks.2"]


@pytest.fixture
def X(rng):
    return rng.normal(size=(30, 4)).astype(np.float32)


@pytest.fixture
def y(X):
    return (X[:, 0] > 0).astype(int)


@pytest.fixture
def module():
    return Counting(Doubling(3))


@pytest.fixture
def extractor(module, cache):
    return TorchFeatureExtractor(module, cache=cache)


def search_over(extractor, grid=None, **parameters):
    pipe = make_pipeline(extractor, LogisticRegression())
    grid = grid or {
        "torchfeatureextractor__layer": LAYERS,
        "torchfeatureextractor__pooling": ["auto", "flatten"],
        "logisticregression__C": [0.1, 1, 10],
    }
    return GridSearchCV(pipe, grid, cv=3, error_score="raise", **parameters)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_search_runs_no_row_after_one_pass(module, extractor, X, y, n_jobs):
    search = search_over(extractor, n_jobs=n_jobs)
    done = precompute(search, X)
    assert (done.n_settings, done.n_passes) == (6, 1)
    assert (done.n_run, done.n_known) == (30, 0)
    assert module.tally.rows == 30
    n_rows = len(extractor.cache)
    search.fit(X, y)
    assert module.tally.rows == 30
    assert len(extractor.cache) == n_rows
    plain = search_over(TorchFeatureExtractor(module)).fit(X, y)
    np.testing.assert_allclose(
        search.cv_results_["mean_test_score"],
        plain.cv_results_["mean_test_score"],
        atol=1e-6,
    )


def test_the_output_and_layers_share_a_pass(module, extractor, X, y):
    pipe = make_pipeline(extractor, LogisticRegression())
    layers = [None, LAYERS[0], LAYERS[:2]]
    search = GridSearchCV(pipe, {"torchfeatureextractor__layer": layers}, cv=2)
    done = precompute(search, X)
    assert (done.n_settings, done.n_passes) == (3, 1)
    search.fit(X, y)
    assert module.tally.rows == 30
    for layer in layers:
        extractor.set_params(layer=layer)
        plain = clone(extractor).set_params(cache=None)
        np.testing.assert_array_equal(extractor.transform(X), plain.transform(X))


def test_rows_that_are_known_are_skipped(module, extractor, X):
    extractor.set_params(layer=LAYERS[2]).transform(X[:10])
    done = precompute(extractor, X)
    assert (done.n_run, done.n_known) == (20, 10)
    assert precompute(extractor, X).n_run == 0
    assert module.tally.rows == 30


def test_an_interrupted_pass_keeps_what_is_done(extractor, X, cache):
    extractor.set_params(batch_size=10)
    calls = []

    class Stopping(Counting):
        def forward(self, x):
            calls.append(len(x))
            if len(calls) == 2:
                raise KeyboardInterrupt
            return super().forward(x)

    extractor.set_params(model=Stopping(nn.ReLU()), cache_key="stopping")
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        precompute(extractor, X)
    assert len(cache) == 10
    assert precompute(extractor, X).n_run == 20


def test_a_failing_row_is_named_as_in_x(cache):
    def preprocess(rows):
        return torch.tensor([[float(row)] for row in rows])

    extractor = TorchFeatureExtractor(
        nn.Identity(), preprocess=preprocess, cache=cache, batch_size=1
    )
    with pytest.raises(ForwardError, match="`preprocess` failed on row 3"):
        precompute(extractor, ["1", "1", "2", "bad"])


def test_nothing_is_changed(extractor, X):
    search = search_over(extractor)
    before = search.get_params()
    precompute(search, X)
    assert search.get_params() == before
    assert not hasattr(extractor, "n_features_in_")
    assert not hasattr(search, "best_params_")


def test_models_of_a_grid_get_a_pass_each(extractor, cache, X, y):
    modules = [Counting(mlp(seed=seed)) for seed in range(3)]
    grid = {"torchfeatureextractor__model": [share(one) for one in modules]}
    search = search_over(extractor, grid)
    done = precompute(search, X)
    assert (done.n_settings, done.n_passes, done.n_run) == (3, 3, 90)
    search.fit(X, y)
    assert [one.tally.rows for one in modules] == [30, 30, 30]
    assert len(cache) == 90


@pytest.mark.parametrize(
    "wrap",
    [
        lambda e: FrozenEstimator(make_pipeline(e, PCA(2))),
        lambda e: FeatureUnion([("a", e), ("b", StandardScaler())]),
        lambda e: StackingClassifier([("a", make_pipeline(e, LogisticRegression()))]),
        lambda e: make_pipeline(TensorToArray(), e, StandardScaler()),
        lambda e: make_pipeline("passthrough", e, None),
        lambda e: make_pipeline(make_pipeline(e)),
        lambda e: ColumnTransformer([("a", e, [0, 1, 2, 3])]),
        lambda e: ColumnTransformer([("a", e, lambda X: [0, 1, 2, 3])]),
        lambda e: make_pipeline(
            "passthrough", ColumnTransformer([("a", e, [0, 1, 2, 3])])
        ),
    ],
    ids=[
        "frozen",
        "union",
        "stacking",
        "tensors first",
        "nothing first",
        "nested",
        "columns",
        "selected columns",
        "columns in a pipeline",
    ],
)
def test_extractors_are_found_wherever_they_are(module, extractor, X, wrap):
    assert precompute(wrap(extractor), X).n_run == 30
    assert module.tally.rows == 30
    extractor.transform(X)
    assert module.tally.rows == 30


def test_each_part_gets_the_columns_that_it_will_get(cache, tokenizer, texts):
    torch_part = TorchFeatureExtractor(Counting(Tokens().words), cache=cache)
    frame = pd.DataFrame({"review": texts, "stars": np.arange(8.0)})
    text_part = TorchFeatureExtractor(Tokens(), preprocess=tokenizer, cache=cache)
    both = ColumnTransformer(
        [("text", text_part, "review"), ("numbers", StandardScaler(), ["stars"])]
    )
    assert precompute(both, frame).n_run == len(set(texts))
    both.fit_transform(frame)
    assert len(cache) == len(set(texts))
    assert torch_part is not None


@pytest.mark.parametrize("random_state", [None, 3], ids=["lists", "seeded"])
def test_a_random_search_with_a_finite_list_is_known(extractor, X, y, random_state):
    pipe = make_pipeline(extractor, LogisticRegression())
    space = {"torchfeatureextractor__layer": LAYERS, "logisticregression__C": [1, 2]}
    if random_state is not None:
        space["logisticregression__C"] = uniform(0.1, 1)
    search = RandomizedSearchCV(pipe, space, n_iter=4, cv=2, random_state=random_state)
    precompute(search, X)
    before = extractor.model.tally.rows
    search.fit(X, y)
    assert extractor.model.tally.rows == before == 30


def test_a_random_search_without_end_is_refused(extractor, X):
    pipe = make_pipeline(extractor, LogisticRegression())
    space = {"logisticregression__C": uniform(0.1, 1)}
    with pytest.raises(ValueError, match="no finite list of settings: give it a"):
        precompute(RandomizedSearchCV(pipe, space), X)


def test_a_search_whose_settings_depend_on_its_results_is_refused(extractor, X):
    search = HalvingRandomSearchCV(
        make_pipeline(extractor, LogisticRegression()),
        {"torchfeatureextractor__layer": LAYERS},
        random_state=0,
    )
    with pytest.raises(ValueError, match="HalvingRandomSearchCV will try cannot be"):
        precompute(search, X)


def test_a_generator_of_a_search_is_not_drawn_from(extractor, X):
    pipe = make_pipeline(extractor, LogisticRegression())
    chance = np.random.RandomState(0)
    space = {"logisticregression__C": uniform(0.1, 1)}
    precompute(RandomizedSearchCV(pipe, space, n_iter=2, random_state=chance), X)
    assert chance.uniform() == np.random.RandomState(0).uniform()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda e: e.set_params(cache=None), "needs a `cache` for `precompute`"),
        (lambda e: make_pipeline(StandardScaler(), e), "behind the step 'standard"),
        (
            lambda e: make_pipeline(StandardScaler(), FeatureUnion([("a", e)])),
            "behind the step 'standardscaler', which must be fitted first",
        ),
        (lambda e: LogisticRegression(), "must be or contain a TorchFeatureExtr"),
        (
            lambda e: ColumnTransformer([("text", e, ["review"])]),
            "must have the columns",
        ),
    ],
    ids=["no cache", "behind a step", "deep behind", "none", "no column"],
)
def test_what_cannot_be_done_is_refused_with_a_reason(extractor, X, make, words):
    with pytest.raises(ValueError, match=words):
        precompute(make(extractor), pd.DataFrame(X, columns=list("abcd")))


def test_a_step_that_needs_no_fit_comes_first(extractor, X):
    pipe = make_pipeline(FunctionTransformer(np.negative), extractor)
    precompute(pipe, X)
    before = extractor.model.tally.rows
    pipe.fit_transform(X)
    assert extractor.model.tally.rows == before


def test_progress_is_shown_when_asked_for(extractor, X, capfd):
    precompute(extractor, X, verbose=1)
    assert "30/30" in capfd.readouterr().err
    precompute(extractor, X)
    assert capfd.readouterr().err == ""


def test_the_cache_is_a_file_for_all(cache_path, module, X):
    precompute(TorchFeatureExtractor(module, cache=cache_path), X)
    assert len(EmbeddingCache(cache_path)) == 30
