"""Pickles made when the modules of this package had other names load as they were.

Those in ``data`` were made by such a version, with torch 2.13, scikit-learn
1.9 and NumPy 2.4.
"""

import importlib
import pickle
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from sklearn.exceptions import InconsistentVersionWarning

import sklearn_torch_bridge
from sklearn_torch_bridge import EmbeddingCache, TensorToArray, to_numpy
from sklearn_torch_bridge.inspection import LayerTable
from sklearn_torch_bridge.pooling import mean

DATA = Path(__file__).parent / "data"
X = np.eye(3, dtype=np.float32)
Z = [[1, 4], [2, 5], [3, 6]]  # of a linear layer with 0, ..., 5 and biases of 1


def loaded(name):
    with warnings.catch_warnings():
        # A Pipeline of another scikit-learn; ours are as they were.
        warnings.simplefilter("ignore", InconsistentVersionWarning)
        return joblib.load(DATA / name)  # which reads those of pickle as well


@pytest.mark.parametrize("name", ["extractor.pkl", "extractor.joblib"])
def test_a_fitted_extractor_of_a_module(name):
    extractor = loaded(name)
    assert extractor.pooling is mean
    assert extractor.n_features_in_ == 3
    np.testing.assert_array_equal(extractor.transform(X), Z)


def test_a_fitted_pipeline():
    np.testing.assert_array_equal(loaded("pipeline.joblib").transform(X), Z)


def test_a_tensor_to_array():
    step = loaded("tensor_to_array.pkl")
    assert step.get_params() == TensorToArray(dtype="float64").get_params()
    assert step.transform(torch.eye(3)).dtype == np.float64


def test_handles_of_one_module():
    first, second, extractor = loaded("handles.pkl")
    assert first.module is second.module is extractor.model.module
    assert first == second
    np.testing.assert_array_equal(extractor.transform(X), Z)


def test_results():
    two_samples, by_feature, similarity = loaded("statistics.pkl")
    assert tuple(two_samples) == pytest.approx((-0.10366, 33 / 35), rel=1e-4)
    assert two_samples.n_resamples == 70
    assert by_feature.statistic.tolist() == [0.25] * 3
    assert similarity.statistic == pytest.approx(1)
    assert loaded("precomputed.pkl").n_run == 3
    assert loaded("layers.pkl").layers[0].n_parameters == 8
    assert isinstance(loaded("layers.pkl"), LayerTable)
    assert loaded("display.pkl").similarity.shape == (2, 2)


def test_functions_errors_and_a_cache():
    assert loaded("function.pkl") is to_numpy
    assert loaded("cache.pkl") == EmbeddingCache("/embeddings.db")
    for error, text in zip(loaded("errors.pkl"), "abcdefgh", strict=True):
        assert str(error) == text
        assert type(error) is getattr(sklearn_torch_bridge, type(error).__name__)


def test_what_is_loaded_pickles_under_the_names_of_today():
    for name in ("extractor.pkl", "handles.pkl", "precomputed.pkl"):
        data = pickle.dumps(loaded(name))
        assert b"sklearn_torch_bridge._pickling" in data or name == "precomputed.pkl"
        assert b"_export" not in data
        assert b"_feature_extractor" not in data


def test_a_module_that_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError, match="_never"):
        importlib.import_module("sklearn_torch_bridge._never")
    with pytest.raises(ModuleNotFoundError, match="_export"):
        importlib.import_module("_export")
