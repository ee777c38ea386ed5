"""What a model is identified by, and when it is loaded."""

import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import (
    EmbeddingCache,
    FingerprintError,
    TorchFeatureExtractor,
    models,
)
from sklearn_torch_bridge.models import _load_model, _registry
from sklearn_torch_bridge.models._load_model import load_model
from sklearn_torch_bridge.models._registry import Library

pytestmark = pytest.mark.usefixtures("own_registry")


class Multiplied:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, rows):
        return torch.tensor([[float(row) * self.factor] for row in rows])


def test_a_model_not_here_yet_is_loaded_to_know_what_it_takes(tmp_path):
    """As a model of the hub at its first use."""

    def read(paths):
        return torch.tensor([[float(path.read_text())] for path in paths])

    def load(_):
        (tmp_path / "there").touch()
        return models.LoadedModel(nn.Identity(), media=read)

    def files(name):
        if not (tmp_path / "there").exists():
            raise FileNotFoundError(name)
        return [tmp_path / "there"]

    def opens(name):
        return bool(files(name))

    _registry.LIBRARIES["hub"] = Library(load, None, files, opens)
    (tmp_path / "a").write_text("7")
    assert TorchFeatureExtractor("hub:x").transform([f"{tmp_path}/a"]).item() == 7


def test_files_identify_a_model_without_loading(tmp_path):
    loads = []

    def load(name):
        loads.append(name)
        return nn.Linear(2, int(Path(name).read_text()))

    models.register("sized", load, files=lambda name: [Path(name)])
    (tmp_path / "size").write_text("3")
    extractor = TorchFeatureExtractor(f"sized:{tmp_path}/size", cache=tmp_path / "e.db")
    extractor.transform([[1.0, 2]])
    _load_model._BY_STRING.forget(f"sized:{tmp_path}/size")
    extractor.transform([[1.0, 2]])
    assert len(loads) == 1
    (tmp_path / "size").write_text("4")
    assert extractor.transform([[1.0, 2]]).shape == (1, 4)


def test_weights_identify_a_model_where_no_files_do(tmp_path):
    scale = {"a": 1.0}

    def load(name):
        module = nn.Linear(1, 1, bias=False)
        nn.init.constant_(module.weight, scale[name])
        return module

    models.register("scaled", load)
    extractor = TorchFeatureExtractor("scaled:a", cache=tmp_path / "e.db")
    assert extractor.transform([[2.0]]).item() == 2
    _load_model._BY_STRING.forget("scaled:a")
    scale["a"] = 3.0
    models_seen = extractor.transform([[2.0]])
    assert models_seen.item() == 6


def test_what_a_model_brings_identifies_it(tmp_path):
    def load(name):
        return models.LoadedModel(nn.Identity(), preprocess=Multiplied(int(name)))

    models.register("times", load)
    store = EmbeddingCache(tmp_path / "e.db")
    for name in ("2", "3"):
        Z = TorchFeatureExtractor(f"times:{name}", cache=store).transform(["1"])
        assert Z.item() == int(name)


def test_a_process_that_receives_a_fingerprint_need_not_load(tmp_path):
    models.register("tiny", lambda name: nn.Linear(2, int(name)))
    extractor = TorchFeatureExtractor("tiny:3", cache=tmp_path / "e.db")
    Z = extractor.transform([[1.0, 2]])
    sent = pickle.dumps(extractor)
    _load_model._BY_STRING.forget("tiny:3")
    models.register("tiny", None)  # as in a process without the model
    np.testing.assert_array_equal(pickle.loads(sent).transform([[1.0, 2]]), Z)  # noqa: S301 - made above


def test_weights_loaded_here_count_whatever_others_found(tmp_path):
    scale = {"a": 1.0}

    def load(name):
        module = nn.Linear(1, 1, bias=False)
        nn.init.constant_(module.weight, scale[name])
        return module

    models.register("scaled", load)
    extractor = TorchFeatureExtractor("scaled:a", cache=tmp_path / "e.db")
    assert extractor.transform([[2.0]]).item() == 2
    sent = pickle.dumps(extractor)
    _load_model._BY_STRING.forget("scaled:a")
    scale["a"] = 3.0
    other = TorchFeatureExtractor("scaled:a", cache=tmp_path / "e.db")
    assert other.transform([[2.0]]).item() == 6
    received = pickle.loads(sent)  # noqa: S301 - made above
    assert received.transform([[2.0]]).item() == 6


def test_what_cannot_be_identified_asks_for_a_key(tmp_path):
    def load(_):
        lock = threading.Lock()
        return models.LoadedModel(
            nn.Identity(), preprocess=lambda rows: lock and torch.ones(len(rows), 1)
        )

    models.register("odd", load)
    extractor = TorchFeatureExtractor("odd:a", cache=tmp_path / "e.db")
    with pytest.raises(FingerprintError, match="cache_key"):
        extractor.transform(["a"])
    keyed = extractor.set_params(cache_key="1")
    assert keyed.transform(["a"]).shape == (1, 1)


def test_what_no_loader_may_return_is_named():
    models.register("bad", lambda _: 3)
    with pytest.raises(TypeError, match=r"'bad:x'.* must return a .* got int"):
        TorchFeatureExtractor("bad:x").transform([[1.0]])


def test_a_string_is_loaded_once(minilm_path):
    assert load_model(f"hf:{minilm_path}") is load_model(f"hf:{minilm_path}")
