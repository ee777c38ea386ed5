"""Fingerprints of settings and of files."""

import inspect
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - as its users call it
from sklearn.base import clone
from torch import nn

from sklearn_torch_bridge import (
    EmbeddingCache,
    TorchFeatureExtractor,
    Windows,
    pooling,
)
from sklearn_torch_bridge._errors import FingerprintError
from sklearn_torch_bridge._known import _settings_fingerprint, settings_fingerprint
from tests.processes import run_code
from tests.tiny_models import mlp


@pytest.fixture
def X(rng):
    return rng.normal(size=(40, 4)).astype(np.float32)


BASE = {
    "layer": "0",
    "output": None,
    "pooling": "max",
    "preprocess": None,
    "prompt": "",
    "max_length": None,
    "windows": None,
    "precision": None,
    "compile": False,
    "device_type": "cpu",
    "dtype": "float32",
    "cache_key": None,
}
OTHERS = {
    "layer": [None, "1", ["0", "1"], ["1", "0"], "0.1"],
    "output": [0, "0", 1, "logits"],
    "pooling": [None, "mean", "last", "cls", "gap", "gmp", "flatten", F.relu, F.gelu],
    "preprocess": [list, tuple, lambda rows: rows, lambda rows: rows[::-1]],
    "prompt": ["query: ", "query"],
    "max_length": [64, 128],
    "windows": [Windows(), Windows(overlap=64)],
    "precision": ["bfloat16", "float16"],
    "compile": [True, "reduce-overhead"],
    "device_type": ["cuda", "mps"],
    "dtype": [None, "float64", "float16"],
    "cache_key": ["", "a", "b"],
}


def test_every_setting_counts():
    found = {("the base",): settings_fingerprint(b"m", **BASE)}
    found["the model",] = settings_fingerprint(b"n", **BASE)
    for name, values in OTHERS.items():
        for place, value in enumerate(values):
            changed = settings_fingerprint(b"m", **BASE | {name: value})
            found[name, place] = changed
    assert len(set(found.values())) == len(found)


def test_the_tables_above_miss_no_setting():
    parameters = inspect.signature(settings_fingerprint).parameters
    assert [*BASE] == [*OTHERS] == list(parameters)[1:]


def test_settings_that_mean_the_same_agree():
    same = [
        BASE | {"layer": ["0"]},
        BASE | {"layer": ("0",)},
        BASE | {"dtype": np.float32},
        BASE | {"dtype": np.dtype("float32")},
        BASE | {"pooling": pooling.max},
    ]
    expected = settings_fingerprint(b"m", **BASE)
    assert {settings_fingerprint(b"m", **settings) for settings in same} == {expected}
    means = [settings_fingerprint(b"m", pooling=one) for one in ("mean", pooling.mean)]
    assert means[0] == means[1]


def test_what_a_model_brings_is_told_from_the_mean():
    names = [settings_fingerprint(b"m", pooling=name) for name in ("auto", "mean")]
    assert names[0] != names[1]


def test_the_format_counts(monkeypatch):
    before = settings_fingerprint(b"m", **BASE)
    monkeypatch.setattr(
        _settings_fingerprint, "FORMAT", _settings_fingerprint.FORMAT + 1
    )
    assert settings_fingerprint(b"m", **BASE) != before


def test_how_torch_multiplies_and_its_default_dtype_count():
    code = """
import torch
from sklearn_torch_bridge._known import (settings_fingerprint)
for device_type in ("cpu", "cuda"):
    found = [settings_fingerprint(b"m", device_type=device_type)]
    torch.set_float32_matmul_precision("medium")
    found.append(settings_fingerprint(b"m", device_type=device_type))
    torch.set_float32_matmul_precision("highest")
    assert settings_fingerprint(b"m", device_type=device_type) == found[0]
    torch.set_default_dtype(torch.float64)
    found.append(settings_fingerprint(b"m", device_type=device_type))
    torch.set_default_dtype(torch.float32)
    assert len(set(found)) == 3
before = settings_fingerprint(b"m", device_type="cuda")
torch.backends.cudnn.allow_tf32 = False
assert settings_fingerprint(b"m", device_type="cuda") != before
"""
    run = run_code(code)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("name", ["pooling", "preprocess"])
def test_settings_that_cannot_be_identified_are_named(name):
    draws = np.random.default_rng(0)
    settings = BASE | {name: lambda *args: draws}
    pattern = rf"`{name}` cannot be fingerprinted: closure variable 'draws' is a source"
    with pytest.raises(FingerprintError, match=pattern):
        settings_fingerprint(b"m", **settings)
    found = {
        settings_fingerprint(b"m", **settings | {"cache_key": "a"}),
        settings_fingerprint(b"m", **settings | {"cache_key": "b"}),
        settings_fingerprint(b"m", **BASE | {name: lambda x: draws, "cache_key": "a"}),
    }
    assert len(found) == 3


def scaled(factor):
    return lambda rows: torch.tensor(np.asarray(rows)) * factor


PARAMETERS = {
    "weights": lambda: {"model": mlp(seed=1)},
    "activation": lambda: {"model": nn.Sequential(mlp()[0], nn.GELU(), mlp()[2])},
    "layer": lambda: {"layer": "first"},
    "several layers": lambda: {"layer": ["second", "first"]},
    "pooling": lambda: {"pooling": lambda hidden, _: hidden * 2},
    "preprocess": lambda: {"preprocess": scaled(2)},
    "other preprocess": lambda: {"preprocess": scaled(3)},
    "precision": lambda: {"precision": "bfloat16"},
    "dtype": lambda: {"dtype": "float64"},
    "half model": lambda: {"model": mlp().bfloat16()},
}


@pytest.mark.parametrize(
    ("one", "other"), list(itertools.permutations(["plain", *PARAMETERS], 2))
)
def test_no_setting_gets_the_vectors_of_another(X, tmp_path, one, other):
    cache = EmbeddingCache(tmp_path / "cache.db")
    both = [
        TorchFeatureExtractor(mlp()).set_params(**PARAMETERS.get(name, dict)())
        for name in (one, other)
    ]
    for extractor in both:
        cached = clone(extractor).set_params(cache=cache)
        np.testing.assert_array_equal(
            cached.transform(X), extractor.transform(X), strict=True
        )
    cache.close()


def test_rows_stored_with_what_padded_them_are_not_found(monkeypatch):
    now = settings_fingerprint(b"m", pooling=None)
    monkeypatch.setattr(_settings_fingerprint, "_pooling_by_name", lambda pool: pool)
    assert settings_fingerprint(b"m", pooling=None) != now
