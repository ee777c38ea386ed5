"""What a model is identified by, and when it is loaded."""

import copy
import json
import os
import pickle
import shutil
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
    precompute,
)
from sklearn_torch_bridge._known import _model_fingerprint
from sklearn_torch_bridge.models import _load_model, _registry
from sklearn_torch_bridge.models._hugging_face import hf_files
from sklearn_torch_bridge.models._load_model import load_model
from sklearn_torch_bridge.models._registry import Library
from sklearn_torch_bridge.models._sentence_transformers import st_files
from tests import families

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
        held = (row for row in "ab")
        return models.LoadedModel(
            nn.Identity(), preprocess=lambda rows: held and torch.ones(len(rows), 1)
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


# --- what is in the files now answers, and not what was ------------------------------


def save_scale(path, number):
    """Write a file whose model multiplies."""
    path.write_text(str(number))


@pytest.fixture
def scaled(tmp_path):
    """Register models that multiply by the number in a file."""

    def load(name):
        module = nn.Linear(1, 1, bias=False)
        nn.init.constant_(module.weight, float(Path(name).read_text()))
        return module

    models.register("scaled", load, files=lambda name: [Path(name)])
    save_scale(tmp_path / "scale", 2)
    return tmp_path / "scale"


@pytest.mark.parametrize("cached", [False, True], ids=["plain", "cache"])
def test_a_file_replaced_by_one_of_its_size_and_time_is_loaded(
    scaled, cached, cache_path
):
    extractor = TorchFeatureExtractor(
        f"scaled:{scaled}", cache=cache_path if cached else None
    )
    assert extractor.transform([[1.0]]).item() == 2
    times = scaled.stat().st_atime_ns, scaled.stat().st_mtime_ns
    save_scale(scaled.with_name("other"), 3)
    os.utime(scaled.with_name("other"), ns=times)
    scaled.with_name("other").replace(scaled)
    assert extractor.transform([[1.0]]).item() == 3
    assert TorchFeatureExtractor(f"scaled:{scaled}").transform([[1.0]]).item() == 3


def test_a_link_that_goes_elsewhere_is_followed(scaled):
    other, link = scaled.with_name("other"), scaled.with_name("link")
    save_scale(other, 3)
    link.symlink_to(scaled)
    extractor = TorchFeatureExtractor(f"scaled:{link}")
    assert extractor.transform([[1.0]]).item() == 2
    link.unlink()
    link.symlink_to(other)
    assert extractor.transform([[1.0]]).item() == 3


def test_a_model_whose_file_is_gone_is_no_model(scaled):
    extractor = TorchFeatureExtractor(f"scaled:{scaled}")
    extractor.transform([[1.0]])
    scaled.unlink()
    with pytest.raises(FileNotFoundError):
        extractor.transform([[1.0]])


def test_a_prefix_registered_anew_loads_anew(scaled):
    extractor = TorchFeatureExtractor(f"scaled:{scaled}")
    extractor.transform([[1.0]])
    models.register("scaled", lambda _: nn.Identity())
    assert extractor.transform([[1.0]]).item() == 1


def test_files_that_change_while_they_are_loaded_are_refused(scaled):
    def load(name):
        save_scale(Path(name), 3)
        return nn.Identity()

    models.register("scaled", load, files=lambda name: [Path(name)])
    with pytest.raises(RuntimeError, match="changed while it was loaded"):
        TorchFeatureExtractor(f"scaled:{scaled}").transform([[1.0]])


@pytest.mark.parametrize("prefix", ["hf", "st"])
def test_a_folder_saved_anew_is_loaded_anew(prefix, tmp_path):
    name = f"{prefix}:{tmp_path}/model"
    config, _ = families.TEXTS["bert"]
    rows = families.TEXT_ROWS
    model, _ = families.folder_with(tmp_path, config, families.make_tokenizer())
    before = TorchFeatureExtractor(name).transform(rows)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.5)
    model.save_pretrained(tmp_path / "model")
    after = TorchFeatureExtractor(name).transform(rows)
    module = load_model(name).module
    assert np.abs(after - before).max() > 0.01
    loaded = module.state_dict()
    for name, expected in model.state_dict().items():
        key = next(key for key in loaded if f".{key}".endswith(f".{name}"))
        torch.testing.assert_close(loaded[key], expected)


@pytest.mark.parametrize("cache_name", ["rows.sqlite", "inner/rows", "embeddings.x"])
@pytest.mark.parametrize("prefix", ["hf", "st"])
def test_what_we_write_into_its_folder_loads_no_model_anew(
    prefix, cache_name, tmp_path
):
    config, _ = families.TEXTS["bert"]
    families.folder_with(tmp_path, config, families.make_tokenizer())
    name, folder = f"{prefix}:{tmp_path}/model", tmp_path / "model"
    module = load_model(name).module
    state = st_files(str(folder)) if prefix == "st" else hf_files(str(folder))
    extractor = TorchFeatureExtractor(name, cache=folder / cache_name)
    for n_rows in (1, 2, 3):
        extractor.transform(families.TEXT_ROWS[:n_rows])
        extractor.transform_to_file(families.TEXT_ROWS[:n_rows], folder / "all.npy")
        (folder / "all.npy").rename(folder / "results")
        assert load_model(name).module is module
    again = st_files(str(folder)) if prefix == "st" else hf_files(str(folder))
    assert again == state


def test_a_tokenizer_saved_anew_is_loaded_anew(tmp_path):
    config, _ = families.TEXTS["bert"]
    _, name = families.folder_with(tmp_path, config, families.make_tokenizer())
    extractor = TorchFeatureExtractor(name)
    before = extractor.transform(["a b"])
    path = tmp_path / "model" / "tokenizer.json"
    path.write_text(path.read_text().replace('"a": 4', '"a": 6'))
    assert np.abs(extractor.transform(["a b"]) - before).max() > 1e-3


def test_what_a_changed_folder_takes_decides_about_str(tmp_path, rng):
    """A str that was a path is a text now."""
    config, _ = families.IMAGES["vit"]
    _, name = families.folder_with(tmp_path, config, families.picture_processor())
    image = families.make_images(rng, 1)[0]
    TorchFeatureExtractor(name).transform([image])
    shutil.rmtree(tmp_path / "model")
    config, _ = families.TEXTS["bert"]
    families.folder_with(tmp_path, config, families.make_tokenizer())
    assert TorchFeatureExtractor(name).transform(["a b"]).shape == (1, 16)


def test_the_model_that_an_adapter_is_for_counts(tmp_path):
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    for folder in (base, adapter / "inner"):
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_text("1")
    settings = json.dumps({"base_model_name_or_path": str(base)})
    (adapter / "adapter_config.json").write_text(settings)
    (adapter / "inner" / "adapter_config.json").write_text(settings)
    (base / "adapter_config.json").write_text(settings)  # a circle is no trouble
    for files in (hf_files, st_files):
        assert base / "model.safetensors" in files(str(adapter))


# --- what a callable makes -----------------------------------------------------------


def scale(number):
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, number)
    return module


def test_an_edited_module_of_a_callable_is_another_for_cache_and_file(tmp_path, cache):
    net = scale(2)
    extractor = TorchFeatureExtractor(lambda: net, cache=cache)
    assert extractor.transform([[1.0]]).item() == 2
    extractor.transform_to_file([[1.0]], tmp_path / "Z.npy")
    net.weight.data.fill_(3)
    assert extractor.transform([[1.0]]).item() == 3
    with pytest.raises(FileExistsError):
        extractor.transform_to_file([[1.0]], tmp_path / "Z.npy")


def test_a_callable_that_finds_another_module_is_called_again(cache):
    net = scale(2)
    plain = TorchFeatureExtractor(lambda: net)
    cached = TorchFeatureExtractor(lambda: net, cache=cache)
    assert plain.transform([[1.0]]).item() == cached.transform([[1.0]]).item() == 2
    net = scale(3)
    copied = copy.copy(cached)
    for extractor in (plain, cached, copied):
        assert extractor.transform([[1.0]]).item() == 3


class Sized:
    """Makes a module as wide as one of several places says."""

    width = 1
    __slots__ = ("__weakref__", "file", "nested")

    def __init__(self, file):
        self.file, self.nested = file, {"a": [{"width": 1}]}

    def __call__(self):
        widths = self.width, self.nested["a"][0]["width"], int(self.file.read_text())
        return nn.Linear(2, sum(widths) + int(os.environ.get("STB_TESTS_WIDTH", "0")))


@pytest.mark.parametrize("place", ["class", "nested", "file", "environment"])
def test_a_callable_is_called_again_whatever_it_reads(place, tmp_path, monkeypatch):
    file = tmp_path / "width"
    file.write_text("1")
    model = Sized(file)
    extractor = TorchFeatureExtractor(model)
    X = np.ones((1, 2), np.float32)
    first = extractor.transform(X)
    np.testing.assert_array_equal(extractor.transform(X), first)  # the same weights
    changes = {
        "class": lambda: monkeypatch.setattr(Sized, "width", 2),
        "nested": lambda: model.nested["a"][0].update(width=2),
        "file": lambda: file.write_text("2"),
        "environment": lambda: monkeypatch.setenv("STB_TESTS_WIDTH", "1"),
    }
    changes[place]()
    assert extractor.transform(X).shape == (1, first.shape[1] + 1)


def test_a_callable_that_counts_its_calls_is_called_once():
    calls = []

    def build():
        calls.append(1)
        return scale(2)

    for _ in range(3):
        TorchFeatureExtractor(build).transform([[1.0]])
    assert len(calls) == 1


class Unpickled:
    """Makes what its process has, as a function does that a pickle names."""

    number = 2

    def __call__(self):
        return scale(self.number)


def other_process(extractor, monkeypatch):
    """Return an extractor as another process gets it, to which nothing is known."""
    sent = pickle.dumps(extractor)
    for name in ("_RECEIVED", "_COMPUTED"):
        monkeypatch.setattr(_model_fingerprint, name, _model_fingerprint._ByModel())
    return pickle.loads(sent)  # noqa: S301 - made above


def test_a_pickle_tells_what_a_module_is_when_it_is_made(cache_path, monkeypatch):
    net = scale(2)
    extractor = TorchFeatureExtractor(Holder(net), cache=cache_path)
    assert extractor.transform([[1.0]]).item() == 2
    net.weight.data.fill_(3)
    assert other_process(extractor, monkeypatch).transform([[1.0]]).item() == 3


class Holder:
    def __init__(self, net):
        self.net = net

    def __call__(self):
        return self.net


@pytest.mark.parametrize("known", [1, 2], ids=["nothing new", "one row more"])
def test_what_another_process_had_is_not_mixed_with_what_is_here(
    known, cache_path, monkeypatch, tmp_path
):
    """A row is cached under what the model is that has computed it."""
    rows = [[1.0], [10.0]]
    extractor = TorchFeatureExtractor(Unpickled(), cache=cache_path)
    assert extractor.transform(rows[:1]).item() == 2
    received = other_process(extractor, monkeypatch)
    monkeypatch.setattr(Unpickled, "number", 3)
    found = received.transform(rows[:known])
    assert found.ravel().tolist() == ([2] if known == 1 else [3, 30])
    Z = other_process(extractor, monkeypatch).transform_to_file(rows, tmp_path / "Z")
    assert Z.ravel().tolist() == [3, 30]
    monkeypatch.setattr(Unpickled, "number", 2)
    again = TorchFeatureExtractor(Unpickled(), cache=cache_path)
    assert again.transform(rows).ravel().tolist() == [2, 20]


def test_precomputed_rows_are_those_of_the_model_here(cache_path, monkeypatch):
    rows = [[1.0], [10.0]]
    extractor = TorchFeatureExtractor(Unpickled(), cache=cache_path)
    assert extractor.transform(rows[:1]).item() == 2
    received = other_process(extractor, monkeypatch)
    monkeypatch.setattr(Unpickled, "number", 3)
    precompute(received, rows)
    assert received.transform(rows).ravel().tolist() == [3, 30]
    monkeypatch.setattr(Unpickled, "number", 2)
    again = TorchFeatureExtractor(Unpickled(), cache=cache_path)
    assert again.transform(rows).ravel().tolist() == [2, 20]
