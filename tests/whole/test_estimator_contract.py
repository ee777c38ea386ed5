"""What scikit-learn asks of its estimators, for ours."""

import pickle

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_torch_bridge import TorchFeatureExtractor
from tests.tiny_models import RowSum, mlp

RAW_MODULE = {
    "check_estimators_overwrite_params": (
        "joblib.hash of a tensor holds its address, so a copy never equals the original"
    )
}
ESTIMATORS = [TorchFeatureExtractor(RowSum())]


def expected_failures(estimator):
    return RAW_MODULE if isinstance(estimator, TorchFeatureExtractor) else {}


@parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected_failures)
def test_estimator_contract(estimator, check):
    check(estimator)


LEFT_OUT = [  # of check_estimator, but part of scikit-learn's own suite
    "check_dataframe_column_names_consistency",
    "check_get_feature_names_out_error",
    "check_global_output_transform_pandas",
    "check_global_set_output_transform_polars",
    "check_inplace_ensure_writeable",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
]


@pytest.mark.filterwarnings(
    # They mix frames and arrays, of which scikit-learn rightly warns.
    "ignore:X (has|does not have valid) feature names:UserWarning"
)
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("name", LEFT_OUT)
def test_checks_that_scikit_learn_runs_on_its_own(name, estimator):
    getattr(estimator_checks, name)(type(estimator).__name__, clone(estimator))


@pytest.fixture
def X(rng):
    return rng.normal(size=(20, 4))


@pytest.mark.parametrize(
    ("container", "frame"), [("pandas", pd.DataFrame), ("polars", pl.DataFrame)]
)
@pytest.mark.parametrize("method", ["fit_transform", "transform"])
def test_set_output_makes_frames_with_our_names(X, container, frame, method):
    extractor = TorchFeatureExtractor(mlp()).set_output(transform=container).fit(X)
    Z = getattr(extractor, method)(X)
    assert isinstance(Z, frame)
    assert list(Z.columns) == [f"torchfeatureextractor{i}" for i in range(3)]


@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_set_output_before_fit_numbers_the_columns(X, container):
    Z = TorchFeatureExtractor(mlp()).set_output(transform=container).transform(X)
    assert Z.shape == (20, 3)


def test_set_output_does_not_go_with_all_axes(X):
    extractor = TorchFeatureExtractor(mlp(), pooling=None).set_output(
        transform="pandas"
    )
    with pytest.raises(ValueError, match="`pooling` must not be None with"):
        extractor.transform(X)


def test_names_and_widths_are_learnt_of_frames(X):
    frame = pd.DataFrame(X, columns=list("abcd"))
    extractor = TorchFeatureExtractor(mlp()).fit(frame)
    assert extractor.n_features_in_ == 4
    assert extractor.feature_names_in_.tolist() == list("abcd")
    with pytest.raises(ValueError, match="feature names should match"):
        extractor.transform(frame[list("dcba")])
    with pytest.raises(ValueError, match="seen at fit time, yet now missing"):
        extractor.transform(frame[list("abc")])


def test_transform_works_before_fit_and_learns_nothing(X):
    extractor = TorchFeatureExtractor(mlp())
    before = dict(vars(extractor))
    Z = extractor.transform(X)
    assert vars(extractor) == before
    np.testing.assert_array_equal(Z, extractor.fit(X).transform(X))


def test_a_clone_shares_the_model_and_forgets_what_was_learnt(X):
    extractor = TorchFeatureExtractor(mlp(), layer="act", batch_size=7)
    extractor.set_output(transform="pandas").fit(X)
    copy = clone(extractor)
    assert copy.model is extractor.model
    assert copy.get_params() == extractor.get_params()
    assert not hasattr(copy, "n_features_in_")
    assert isinstance(copy.transform(X), pd.DataFrame)


def test_a_clone_of_a_large_model_takes_no_memory():
    model = mlp(n_in=10_000)
    copies = [clone(TorchFeatureExtractor(model)) for _ in range(50)]
    assert all(copy.model is model for copy in copies)


def test_clones_in_a_search_may_have_other_parameters(X):
    extractor = TorchFeatureExtractor(mlp(), layer="act")
    other = clone(extractor).set_params(layer="first", dtype="float64")
    assert extractor.layer == "act"
    assert other.transform(X).dtype == np.float64


@pytest.mark.parametrize("route", [pickle, joblib], ids=["pickle", "joblib"])
def test_a_fitted_pipeline_survives_being_stored(X, route, tmp_path):
    y = (X[:, 0] > 0).astype(int)
    pipe = make_pipeline(TorchFeatureExtractor(mlp()), LogisticRegression()).fit(X, y)
    path = tmp_path / "pipe"
    if route is joblib:
        joblib.dump(pipe, path)
        loaded = joblib.load(path)
    else:
        loaded = pickle.loads(pickle.dumps(pipe))  # noqa: S301 - our own bytes
    np.testing.assert_array_equal(loaded.predict_proba(X), pipe.predict_proba(X))


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_grid_search_tunes_the_layer(X, n_jobs):
    y = (X[:, 0] > 0).astype(int)
    pipe = make_pipeline(TorchFeatureExtractor(mlp()), LogisticRegression())
    grid = {"torchfeatureextractor__layer": ["first", "act", None, ["first", "act"]]}
    search = GridSearchCV(pipe, grid, cv=2, n_jobs=n_jobs, error_score="raise")
    search.fit(X, y)
    by_hand = [
        GridSearchCV(
            clone(pipe).set_params(torchfeatureextractor__layer=layer), {}, cv=2
        )
        .fit(X, y)
        .best_score_
        for layer in grid["torchfeatureextractor__layer"]
    ]
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], by_hand)


def test_the_html_and_text_forms_show_the_parameters():
    extractor = TorchFeatureExtractor(mlp(), layer="first")
    assert "layer='first'" in repr(extractor)
    assert "first" in extractor._repr_html_()


def test_parameters_are_checked_when_used_and_not_before(X):
    extractor = TorchFeatureExtractor(None, pooling=3, batch_size="x")
    assert extractor.batch_size == "x"
    with pytest.raises(TypeError, match="`batch_size` must be an int"):
        extractor.fit(X)


def test_metadata_routing_is_available():
    with sklearn.config_context(enable_metadata_routing=True):
        assert TorchFeatureExtractor(mlp()).get_metadata_routing() is not None
