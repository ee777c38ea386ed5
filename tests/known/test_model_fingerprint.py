"""Fingerprints of models: no other computation has the same one."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sklearn.base import clone
from torch import nn
from transformers import AutoConfig, AutoModel

from sklearn_torch_bridge import (
    TorchFeatureExtractor,
)
from sklearn_torch_bridge._digest import digest
from sklearn_torch_bridge._errors import FingerprintError
from sklearn_torch_bridge._known import (
    _model_fingerprint,
    fingerprint_model,
    fingerprint_module,
    known_fingerprint,
    remember_fingerprint,
)
from sklearn_torch_bridge.models import load_model
from tests.known.test_recall import counted
from tests.tiny_models import mlp


@pytest.fixture
def X(rng):
    return rng.normal(size=(40, 4)).astype(np.float32)


class Guarded(nn.Module):
    def __init__(self, number=1):
        super().__init__()
        self.linear = nn.Linear(2, 2)
        nn.init.constant_(self.linear.weight, number)
        nn.init.zeros_(self.linear.bias)
        self.number = number
        self.draws = np.random.default_rng(0)

    def forward(self, x):
        return self.linear(x)


def test_a_cache_key_stands_for_what_cannot_be_identified_alone():
    pattern = (
        r"`model` cannot be fingerprinted: attribute 'draws' is a source.*`cache_key`"
    )
    with pytest.raises(FingerprintError, match=pattern):
        fingerprint_module(Guarded())
    one = fingerprint_module(Guarded(), cache_key="k")
    assert fingerprint_module(Guarded(), cache_key="k") == one
    edited = Guarded()
    edited.linear.bias.data += 1
    assert fingerprint_module(edited, cache_key="k") != one
    attribute = Guarded()
    attribute.number = 2
    assert fingerprint_module(attribute, cache_key="k") != one


@pytest.mark.parametrize(
    "module",
    [nn.LazyLinear(2), nn.Linear(2, 2, device="meta")],
    ids=["lazy", "meta"],
)
def test_modules_without_values_are_refused(module):
    with pytest.raises(FingerprintError, match="parameter 'weight' is a tensor whose"):
        fingerprint_module(module)


# --- real models and their tokenizers ------------------------------------------------


def load(path, kind=AutoModel, **options):
    return kind.from_pretrained(path, **options)


def test_a_real_model(minilm, minilm_path):
    expected = fingerprint_module(minilm)
    other = load(minilm_path)
    assert fingerprint_module(other) == expected
    bare = type(other)(AutoConfig.from_pretrained(minilm_path))
    bare.load_state_dict(other.state_dict())
    bare.config.dtype = other.config.dtype
    other.encoder.layer[3].output.dense.weight.data[7, 5] += 1e-6
    assert fingerprint_module(other) != expected
    assert fingerprint_module(minilm) == expected


@pytest.mark.parametrize(
    "edit",
    [
        lambda model: setattr(model.config, "hidden_act", "relu"),
        lambda model: setattr(model.config, "chunk_size_feed_forward", 4),
        lambda model: model.set_attn_implementation("eager"),
        lambda model: setattr(model.encoder.layer[0].attention.self, "scaling", 1.0),
        lambda model: setattr(
            model.encoder.layer[1].intermediate, "intermediate_act_fn", nn.ReLU()
        ),
        lambda model: model.half(),
    ],
    ids=["config", "chunks", "attention", "scaling", "activation", "half"],
)
def test_edits_of_a_real_model_are_seen(minilm, minilm_path, edit):
    other = load(minilm_path)
    edit(other)
    assert fingerprint_module(other) != fingerprint_module(minilm)


def test_where_a_real_model_was_loaded_from_does_not_count(
    minilm, minilm_path, tmp_path
):
    load(minilm_path).save_pretrained(tmp_path)
    assert fingerprint_module(load(tmp_path)) == fingerprint_module(minilm)


def test_a_sentence_transformer(minilm_path):
    one, other = (SentenceTransformer(minilm_path, device="cpu") for _ in range(2))
    expected = fingerprint_module(one)
    one.encode(["some text", "more"])
    assert fingerprint_module(one) == fingerprint_module(other) == expected
    other.max_seq_length = 16
    assert fingerprint_module(other) != expected


def test_another_process_agrees_on_a_real_model(minilm, tokenizer, minilm_path):
    code = f"""
import json, os
os.environ["HF_HUB_OFFLINE"] = "1"
from transformers import AutoModel, AutoTokenizer
from sklearn_torch_bridge._digest import (digest)
from sklearn_torch_bridge._known import (fingerprint_module)
print(json.dumps([
    fingerprint_module(AutoModel.from_pretrained({minilm_path!r})).hex(),
    digest(AutoTokenizer.from_pretrained({minilm_path!r})).hex(),
]))
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    expected = [fingerprint_module(minilm).hex(), digest(tokenizer).hex()]
    assert json.loads(run.stdout) == expected


def test_what_a_callable_makes_is_known_again(X, cache):
    module, tally = counted()
    made = []

    def build():
        made.append(module)
        return module

    Z = TorchFeatureExtractor(build, cache=cache).transform(X)
    again = TorchFeatureExtractor(build, cache=cache).transform(X)
    np.testing.assert_array_equal(again, Z)
    np.testing.assert_array_equal(
        TorchFeatureExtractor(module, cache=cache).transform(X), Z
    )
    assert tally.rows == 40


def fused_step(module):
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1, fused=True)
    module(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    module.zero_grad()


EDITS = {
    "no_grad": lambda m: m.first.weight.detach().mul_(2),
    "data": lambda m: m.first.weight.data.add_(1),
    "other data": lambda m: setattr(m.first.weight, "data", m.first.weight.data * 3),
    "one value": lambda m: m.second.bias.data[0].add_(1e-3),
    "fused optimizer": fused_step,
    "load_state_dict": lambda m: m.load_state_dict(mlp(seed=3).state_dict()),
    "submodule": lambda m: setattr(m, "act", nn.GELU()),
    "hook": lambda m: m.act.register_forward_hook(lambda *args: args[2] * 2) and None,
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_of_the_model_is_noticed(X, cache, name):
    module = mlp()
    extractor = TorchFeatureExtractor(module, cache=cache)
    before = extractor.transform(X)
    EDITS[name](module)
    after = extractor.transform(X)
    np.testing.assert_array_equal(after, TorchFeatureExtractor(module).transform(X))
    assert np.abs(after - before).max() > 1e-6


def test_a_warm_cache_needs_no_model(cache_path, minilm_path, monkeypatch, texts):
    from sklearn_torch_bridge.models import _load_model as models

    extractor = TorchFeatureExtractor(
        f"hf:{minilm_path}", cache=cache_path, layer="encoder.layer.0"
    )
    Z = extractor.transform(texts)
    monkeypatch.setattr(models, "_load_string", None)
    monkeypatch.setattr(models, "_BY_STRING", models.KeptModels())
    np.testing.assert_array_equal(clone(extractor).fit(texts).transform(texts), Z)


@pytest.fixture
def folder(tmp_path):
    """Give the folder of a small model of transformers, which tests may change."""
    save_bert(tmp_path / "bert", seed=0)
    return tmp_path / "bert"


def save_bert(folder, seed):
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=30_522, intermediate_size=8, **sizes)
    BertModel(config).save_pretrained(folder)


def test_a_model_whose_files_change_is_loaded_anew(folder, tokenizer, cache, texts):
    """Its old weights, still in memory, must not pass for those in the files."""
    tokenizer.save_pretrained(folder)
    extractor = TorchFeatureExtractor(f"hf:{folder}", cache=cache)
    before = extractor.transform(texts[:3])
    save_bert(folder, seed=1)
    after = extractor.transform(texts)
    from transformers import AutoModel

    module = AutoModel.from_pretrained(folder)
    expected = TorchFeatureExtractor(module, preprocess=tokenizer).transform(texts)
    np.testing.assert_allclose(after, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(after[:3] - before).max() > 1e-3


def test_files_that_change_while_they_are_loaded_are_refused(
    folder, tokenizer, cache, texts, monkeypatch
):
    from sklearn_torch_bridge.models import _load_model as models

    tokenizer.save_pretrained(folder)
    load = models._load_string

    def load_then_change(model):
        loaded = load(model)
        save_bert(folder, seed=2)
        return loaded

    monkeypatch.setattr(models, "_load_string", load_then_change)
    extractor = TorchFeatureExtractor(f"hf:{folder}", cache=cache)
    with pytest.raises(RuntimeError, match="changed while it was loaded"):
        extractor.transform(texts)
    assert len(cache) == 0
    monkeypatch.undo()
    assert extractor.transform(texts).shape == (len(texts), 8)


@pytest.fixture
def nothing_known(monkeypatch):
    """Begin as a new process does, to which no fingerprint is known."""
    for name in ("_RECEIVED", "_COMPUTED"):
        monkeypatch.setattr(_model_fingerprint, name, _model_fingerprint._ByModel())


@pytest.mark.usefixtures("nothing_known")
def test_the_fingerprint_of_a_callable_is_that_of_what_it_makes():
    def build():
        return mlp()

    assert known_fingerprint(build) is None
    expected = fingerprint_module(mlp())
    assert fingerprint_model(build, cache_key=None) == expected
    assert known_fingerprint(build) == expected


@pytest.mark.usefixtures("nothing_known")
def test_a_callable_whose_fingerprint_is_known_is_not_called():
    def build():
        raise AssertionError

    remember_fingerprint(build, b"known")
    assert fingerprint_model(build, cache_key=None) == b"known"


@pytest.mark.usefixtures("nothing_known")
@pytest.mark.parametrize("model", [mlp(), None, 3], ids=type)
def test_of_a_module_no_fingerprint_is_kept(model):
    """Its weights may change."""
    assert known_fingerprint(model) is None


@pytest.mark.usefixtures("nothing_known")
def test_a_fingerprint_computed_here_comes_before_one_received():
    def build():
        return mlp()

    remember_fingerprint(build, b"received")
    assert known_fingerprint(build) == b"received"
    load_model(build)
    assert known_fingerprint(build) == fingerprint_module(mlp())


@pytest.mark.usefixtures("nothing_known")
def test_of_a_module_edited_since_the_new_fingerprint_is_known():
    net = mlp()

    def build():
        return net

    before = fingerprint_model(build, cache_key=None)
    net.first.weight.data.add_(1)
    assert before != known_fingerprint(build) == fingerprint_module(net)


@pytest.mark.usefixtures("nothing_known")
def test_what_can_no_longer_be_identified_is_not_known():
    """A pickle is made all the same."""
    net = mlp()

    def build():
        return net

    fingerprint_model(build, cache_key=None)
    net.rows = (row for row in [1, 2])
    assert known_fingerprint(build) is None
    assert known_fingerprint(build, cache_key="k") is not None
