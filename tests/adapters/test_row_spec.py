"""Shape and dtype of a result are known before a row runs, and are the right ones."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge.adapters._row_spec import (
    RowSpec,
    as_dense,
    check_estimator,
    extractor_of,
    row_spec_of,
)
from tests.tiny_models import Counting, mlp

EXTRACTORS = {
    "one layer": lambda: TorchFeatureExtractor(mlp(), layer="first"),
    "two layers": lambda: TorchFeatureExtractor(mlp(), layer=["first", "act"]),
    "float64": lambda: TorchFeatureExtractor(mlp(), dtype="float64"),
    "images": lambda: TorchFeatureExtractor(nn.Flatten(1), pooling=None),
    "token axis": lambda: TorchFeatureExtractor(nn.Unflatten(1, (2, 2)), pooling=None),
}


@pytest.mark.parametrize("is_fitted", [True, False])
@pytest.mark.parametrize("name", EXTRACTORS)
def test_the_spec_is_that_of_the_result(rng, name, is_fitted):
    X = rng.normal(size=(5, 4)).astype(np.float32)
    if name == "images":
        X = X.reshape(5, 1, 2, 2)
    extractor = EXTRACTORS[name]()
    expected = EXTRACTORS[name]().fit_transform(X)
    if is_fitted:
        extractor.fit(X)
    spec = row_spec_of(extractor, "transform", X[:0])
    assert spec == RowSpec(expected.shape[1:], expected.dtype)
    assert spec.check(expected, 5) is expected
    assert spec.empty().shape == (0, *expected.shape[1:])


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_the_spec_of_a_pipeline_costs_no_row_of_a_fitted_extractor(rng, method):
    X = rng.normal(size=(9, 4))
    model = Counting(mlp())
    steps = TorchFeatureExtractor(model), StandardScaler(), LogisticRegression()
    pipe = make_pipeline(*steps).fit(X, np.array(["no", "yes", "perhaps"] * 3))
    before = model.tally.rows
    spec = row_spec_of(pipe, method, X[:0])
    assert model.tally.rows == before
    expected = getattr(pipe, method)(X)
    assert spec == RowSpec(expected.shape[1:], expected.dtype)


def test_a_declared_spec_asks_nobody():
    spec = row_spec_of(None, "transform", None, np.empty((0, 2, 7), np.float16))
    assert spec == RowSpec((2, 7), np.dtype(np.float16))
    with pytest.raises(ValueError, match="`meta` must be an array with an axis of"):
        row_spec_of(None, "transform", None, 3)


@pytest.mark.parametrize(
    "result",
    [np.zeros((2, 3)), np.zeros((3, 4), np.float32), np.zeros((2, 4))],
    ids=["width", "rows", "dtype"],
)
def test_a_result_of_another_spec_is_refused(result):
    spec = RowSpec((4,), np.dtype(np.float32))
    with pytest.raises(ValueError, match=r"must have shape \(2, 4\) and dtype float32"):
        spec.check(result, 2)


def test_the_extractor_of_nested_pipelines_is_the_first_step():
    extractor = TorchFeatureExtractor(mlp())
    pipe = make_pipeline(make_pipeline(extractor, StandardScaler()), StandardScaler())
    assert extractor_of(pipe) is extractor
    check_estimator(pipe, "transform")
    with pytest.raises(TypeError, match="`extractor` must be a TorchFeatureExtractor"):
        check_estimator(make_pipeline(StandardScaler(), extractor), "transform")
    with pytest.raises(ValueError, match="`method` must name a method of Pipeline"):
        check_estimator(pipe, "predict")


def test_frames_become_arrays_and_sparse_rows_are_refused():
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    np.testing.assert_array_equal(as_dense(frame), [[1, 3], [2, 4]])
    with pytest.raises(TypeError, match="must return an array, got a sparse one"):
        as_dense(sp.eye_array(3))
    X = np.eye(4, dtype=np.float32)
    encoder = OneHotEncoder(handle_unknown="ignore")
    pipe = make_pipeline(TorchFeatureExtractor(mlp()), encoder).fit(X)
    with pytest.raises(TypeError, match="sparse_output=False"):
        row_spec_of(pipe, "transform", X[:0])
