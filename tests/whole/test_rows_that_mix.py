"""Rows of a batch that influence each other are said once, before vectors are used."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from sklearn_torch_bridge import TorchFeatureExtractor


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("var", torch.ones(4))

    def forward(self, x):
        return functional.batch_norm(x, self.mean, self.var, training=True)


class Own(nn.modules.batchnorm._BatchNorm):
    def _check_input_dim(self, x):
        pass


def set_to_none():
    module = nn.BatchNorm1d(4)
    module.running_mean = module.running_var = None
    return module


def quantised(layer, dtype=torch.qint8):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        quantize = torch.ao.quantization.quantize_dynamic
        return quantize(nn.Sequential(layer), {type(layer)}, dtype)


MIXING = {
    "no statistics": lambda: nn.BatchNorm1d(4, track_running_stats=False),
    "set to None": set_to_none,
    "own class": lambda: Own(4, track_running_stats=False),
    "synchronised": lambda: nn.SyncBatchNorm(4, track_running_stats=False),
    "functional": Functional,
    "deep inside": lambda: nn.Sequential(nn.Linear(4, 4), nn.Sequential(Functional())),
    "quantised": lambda: quantised(nn.Linear(4, 4)),
}
APART = {
    "statistics": lambda: nn.BatchNorm1d(4),
    "layer": lambda: nn.LayerNorm(4),
    "group": lambda: nn.GroupNorm(2, 4),
    "half precision": lambda: quantised(nn.Linear(4, 4), torch.float16),
}


@pytest.mark.filterwarnings("ignore:.*(deprecated|reduce_range).*")
@pytest.mark.parametrize("has_cache", [False, True])
@pytest.mark.parametrize("name", MIXING)
def test_one_warning_names_what_measures_it(name, has_cache, rng, tmp_path):
    X = rng.normal(size=(8, 4)).astype("float32")
    cache = {"cache": tmp_path / "c.db", "cache_key": "1"} if has_cache else {}
    extractor = TorchFeatureExtractor(MIXING[name](), **cache)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        extractor.transform(X)
        extractor.transform(X[:5] + 1)
    named = "sklearn_torch_bridge.inspection.batch_sensitivity"
    ours = [one for one in caught if named in str(one.message)]
    assert [one.category for one in ours] == [UserWarning]


@pytest.mark.filterwarnings("ignore:.*(deprecated|reduce_range).*")
@pytest.mark.filterwarnings("error:.*batch_sensitivity.*")
@pytest.mark.parametrize("name", APART)
def test_rows_that_stay_apart_are_no_reason_to_warn(name, rng):
    X = rng.normal(size=(8, 4)).astype("float32")
    TorchFeatureExtractor(APART[name]()).transform(X)


@pytest.mark.parametrize("tracks", [False, True])
def test_instances_are_normalised_row_by_row(tracks, rng):
    module = nn.InstanceNorm1d(4, track_running_stats=tracks)
    X = rng.normal(size=(8, 4, 5)).astype(np.float32)
    TorchFeatureExtractor(module, pooling="flatten").transform(X)


def test_a_layer_before_the_normalisation_is_no_reason_to_warn(rng):
    module = nn.Sequential(nn.Linear(4, 4), Functional())
    X = rng.normal(size=(8, 4)).astype(np.float32)
    TorchFeatureExtractor(module, layer="0").transform(X)
