"""Half precision is asked for by name, and never taken over from the caller."""

import numpy as np
import pytest
import torch

from sklearn_torch_bridge import (
    TorchFeatureExtractor,
)
from tests.tiny_models import mlp

SAME = {"rtol": 1e-5, "atol": 1e-5}


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_near_and_comes_back_wide(rng, precision):
    X = rng.normal(size=(30, 4))
    full = TorchFeatureExtractor(mlp()).transform(X)
    Z = TorchFeatureExtractor(mlp(), precision=precision).transform(X)
    assert Z.dtype == np.float32
    np.testing.assert_allclose(Z, full, rtol=0.05, atol=0.02)
    assert np.abs(Z - full).max() > 1e-6


def test_the_autocast_of_the_caller_is_no_setting(rng):
    """No key of a cache and no file would tell what was computed in it."""
    X = rng.normal(size=(30, 4))
    extractor = TorchFeatureExtractor(mlp())
    half = TorchFeatureExtractor(mlp(), precision="bfloat16")
    expected, expected_half = extractor.transform(X), half.transform(X)
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_array_equal(extractor.transform(X), expected)
        np.testing.assert_array_equal(half.transform(X), expected_half)
        assert torch.is_autocast_enabled("cpu")
