import numpy as np
import pandas as pd
import pytest
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - as its name says
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    KFold,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge.inspection import LayerScoreDisplay, layer_scores
from tests.tiny_models import Counting, Doubling, mlp


def searched(X, y, **options):
    pipe = make_pipeline(TorchFeatureExtractor(mlp()), LogisticRegression())
    grid = {
        "torchfeatureextractor__layer": ["first", ["first", "second"], None],
        "logisticregression__C": [1e-4, 1.0],
    }
    return GridSearchCV(pipe, grid, cv=3, **options).fit(X, y)


def test_of_a_search_the_best_candidate_of_each_layer(task):
    search = searched(*task)
    found = LayerScoreDisplay.from_estimator(search)
    assert found.layers == ["first", "first, second", "output"]
    results = pd.DataFrame(search.cv_results_)
    means = results.groupby(
        results["param_torchfeatureextractor__layer"].map(str), sort=False
    )["mean_test_score"].max()
    np.testing.assert_allclose(
        found.mean, means.loc[["first", "['first', 'second']", "None"]]
    )
    assert found.scores.shape == (3, 3)
    best = results["mean_test_score"].argmax()
    place = found.layers.index(found.best_layer)
    assert found.std[place] == pytest.approx(results["std_test_score"][best])


def test_metrics(task):
    search = searched(*task, scoring=["accuracy", "roc_auc"], refit="roc_auc")
    found = LayerScoreDisplay.from_estimator(search)
    assert found.score_name == "roc_auc"
    assert found.mean.max() == search.cv_results_["mean_test_roc_auc"].max()
    other = LayerScoreDisplay.from_estimator(search, metric="accuracy")
    assert other.mean.max() == search.cv_results_["mean_test_accuracy"].max()
    words = r"`metric` must be one of 'accuracy', 'roc_auc', got 'f1'"
    with pytest.raises(ValueError, match=words):
        LayerScoreDisplay.from_estimator(search, metric="f1")
    single = LayerScoreDisplay.from_estimator(searched(*task, scoring="f1"))
    assert single.score_name == "f1"


def test_of_a_halving_search_the_last_round(task):
    X, y = task
    pipe = make_pipeline(TorchFeatureExtractor(mlp()), LogisticRegression())
    grid = {"torchfeatureextractor__layer": ["first", "act", "second"]}
    search = HalvingGridSearchCV(
        pipe, grid, cv=2, random_state=0, min_resources=20, factor=2
    ).fit(X, y)
    found = LayerScoreDisplay.from_estimator(search)
    results = search.cv_results_
    last = results["iter"] == results["iter"].max()
    assert results["mean_test_score"][last].max() in found.mean
    assert sorted(found.layers) == ["act", "first", "second"]


def test_the_parameter_must_be_clear(task):
    X, y = task
    two = make_pipeline(
        TorchFeatureExtractor(mlp()),
        FunctionTransformer(),
        TorchFeatureExtractor(Doubling()),
        LogisticRegression(),
    )
    grid = {
        "torchfeatureextractor-1__layer": ["first", "act"],
        "torchfeatureextractor-2__layer": ["blocks.0"],
    }
    search = GridSearchCV(two, grid, cv=2).fit(X, y)
    with pytest.raises(ValueError, match=r"`param` must name one parameter of the"):
        LayerScoreDisplay.from_estimator(search)
    found = LayerScoreDisplay.from_estimator(
        search, param="torchfeatureextractor-1__layer"
    )
    assert found.layers == ["first", "act"]
    other = GridSearchCV(LogisticRegression(), {"C": [1.0]}, cv=2).fit(X, y)
    with pytest.raises(ValueError, match=r"`param` must be given, got None.* 'C'"):
        LayerScoreDisplay.from_estimator(other)


def test_one_pass_equals_the_search(task):
    X, y = task
    search = searched(X, y)
    found = LayerScoreDisplay.from_estimator(search, param=None)
    shortcut = layer_scores(
        TorchFeatureExtractor(mlp(), layer=["first", "second"]),
        X,
        y,
        LogisticRegression(C=1.0),
        cv=3,
    )
    assert shortcut.layers == ["first", "second"]
    results = search.cv_results_
    for layer, row in zip(shortcut.layers, shortcut.scores, strict=True):
        alone = cross_val_score(
            make_pipeline(
                TorchFeatureExtractor(mlp(), layer=layer), LogisticRegression()
            ),
            X,
            y,
            cv=3,
        )
        np.testing.assert_allclose(row, alone)
    assert found.scores.shape[1] == results["split0_test_score"].ndim * 3


def test_every_row_runs_once(task):
    X, y = task
    model = Counting(mlp())
    extractor = TorchFeatureExtractor(model, layer="inner.*")
    found = layer_scores(extractor, X, y, LogisticRegression(), cv=5)
    assert found.layers == ["inner.first", "inner.act", "inner.second"]
    assert model.tally.rows == len(X)
    assert not hasattr(extractor, "_layer_widths")


def test_every_layer_gets_the_same_folds(task):
    X, y = task
    found = LayerScoreDisplay.from_embeddings(
        {"a": X, "b": X.copy()},
        X[:, 1],
        Ridge(),
        cv=KFold(4, shuffle=True),
        scoring="neg_mean_absolute_error",
    )
    np.testing.assert_array_equal(found.scores[0], found.scores[1])
    assert found.score_name == "neg_mean_absolute_error"
    with pytest.raises(ValueError, match=r"`embeddings` must name at least one"):
        LayerScoreDisplay.from_embeddings({}, y, Ridge())


def test_the_table():
    found = LayerScoreDisplay(["a", "b"], np.array([[0.5, 0.7], [0.2, 0.4]]))
    frame = pd.DataFrame(found.to_dict())
    assert list(frame.columns) == ["layer", "mean", "std", "split0", "split1"]
    np.testing.assert_allclose(frame["mean"], [0.6, 0.3])
    np.testing.assert_allclose(frame["std"], [0.1, 0.1])


def test_printed_it_is_a_table():
    found = LayerScoreDisplay(["a", "bcd"], np.array([[0.5, 0.7], [0.2, 0.4]]))
    assert str(found) == "a    0.60 ± 0.10  (best)\nbcd  0.30 ± 0.10"
    large = LayerScoreDisplay(["a"], np.array([[-1234.5, -1100.2]]))
    assert str(large) == "a  -1167 ± 67  (best)"
    alone = LayerScoreDisplay(["a", "b"], np.array([[0.25], [np.nan]]))
    assert str(alone) == "a  0.250 ± 0.000  (best)\nb  nan ± nan"


def test_layers_too_many_for_a_bar_each_share_a_band():
    scores = np.random.default_rng(0).uniform(size=(150, 5))
    few = LayerScoreDisplay(list("ab"), scores[:2]).plot().ax_
    assert len(few.collections) == 2  # bars: of the best, of the others
    names = [str(k) for k in range(150)]
    many = LayerScoreDisplay(names, scores).plot()
    (band,) = many.ax_.collections
    low, high = band.get_datalim(many.ax_.transData).intervalx
    assert low == pytest.approx((many.mean - many.std).min())
    assert high == pytest.approx((many.mean + many.std).max())


def test_a_layer_that_failed_is_not_the_best():
    found = LayerScoreDisplay(["a", "b"], np.array([[np.nan, 1], [0.2, 0.4]]))
    assert found.best_layer == "b"
    found.plot()
