"""Options are checked when they are used, and wrong ones named."""

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor, _checks
from sklearn_torch_bridge._estimators._extractor_options import request_of
from tests.tiny_models import mlp

SAME = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture
def X(rng):
    return rng.normal(size=(10, 4))


def make_mlp():
    return mlp()


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
def test_a_batch_size_may_be_an_integer_of_numpy(X, dtype):
    extractor = TorchFeatureExtractor(mlp(), num_workers=1)
    size = np.dtype(dtype).type(2)
    many = np.repeat(X, 200, axis=0)
    expected = extractor.transform(many)
    extractor.set_params(batch_size=size)
    np.testing.assert_allclose(extractor.transform(many), expected, **SAME)


@pytest.mark.parametrize(
    ("parameters", "error", "words"),
    [
        (
            {"batch_size": 0},
            ValueError,
            "`batch_size` must be an int of at least 1 or 'auto', got 0",
        ),
        ({"batch_size": True}, ValueError, "`batch_size` .* got True"),
        ({"batch_size": 2.0}, TypeError, "`batch_size` .* got 2.0"),
        ({"dtype": "float31"}, ValueError, "`dtype` must be .* got 'float31'"),
        ({"dtype": "U5"}, ValueError, "`dtype` must be .* got 'U5'"),
        ({"pooling": "median"}, ValueError, "`pooling` must be one of 'auto', 'mean'"),
        ({"pooling": 3}, TypeError, "`pooling` must be a name"),
        ({"preprocess": "lower"}, TypeError, "`preprocess` must be a callable"),
        ({"output": 1.5}, TypeError, "`output` must be a key"),
        ({"precision": "int8"}, ValueError, "`precision` must be one of None, 'bfloat"),
        ({"on_error": "skip"}, ValueError, "`on_error` must be one of 'raise', 'nan'"),
        ({"on_error": "nan", "dtype": "int32"}, ValueError, "`dtype` must hold NaN"),
        ({"num_workers": -1}, ValueError, "`num_workers` must be an int of at least 0"),
        ({"device": []}, ValueError, "`device` must name at least one device"),
        ({"verbose": -1}, ValueError, "`verbose` must be an int of at least 0"),
        ({"layer": "secnd"}, ValueError, r"got 'secnd'\. Close names: 'second'"),
        ({"device": "meta"}, ValueError, "`device` must be available, got 'meta'"),
        ({"device": "gpu"}, ValueError, "`device` must be 'auto' or a torch device"),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["fit", "transform", "fit_transform"])
def test_wrong_options_are_named(X, method, parameters, error, words):
    with pytest.raises(error, match=words):
        getattr(TorchFeatureExtractor(mlp(), **parameters), method)(X)


def test_compile_asks_for_a_torch_that_it_was_tested_with(monkeypatch):
    monkeypatch.setattr(_checks, "_known", set())  # values that have passed
    monkeypatch.setattr(torch, "__version__", type(torch.__version__)("2.6.0"))
    with pytest.raises(ValueError, match=r"must be False with torch 2.6.0.*torch 2.13"):
        TorchFeatureExtractor(nn.Identity(), compile=True).transform([[1.0]])


def request(**options):
    return request_of(TorchFeatureExtractor(mlp(), **options))


def test_without_layers_the_output_is_read_and_several_need_vectors():
    assert [reading.layer for reading in request().readings(())] == [""]
    one, two = request(pooling=None).readings(["a", "b"])
    assert (one.layer, two.layer) == ("a", "b")
    assert one.needs_vector
    assert not request(pooling=None).readings(["a"])[0].needs_vector


@pytest.mark.parametrize(
    "options",
    [
        {"output": "a"},
        {"pooling": "max"},
        {"preprocess": torch.tensor},
        {"precision": "bfloat16"},
        {"dtype": "float64"},
        {"cache_key": "b"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_a_fingerprint_differs_with_what_changes_a_vector(options):
    plain, other = request(), request(**options)
    model = plain.model_fingerprint()
    prints = [
        one.fingerprint(model, one.readings(())[0], "")
        for one in (plain, other, request(batch_size=1, num_workers=2, verbose=1))
    ]
    assert prints[0] != prints[1]
    assert prints[0] == prints[2]


def test_the_first_device_is_where_it_runs():
    assert request(device=["cpu", "cpu"]).device == torch.device("cpu")
