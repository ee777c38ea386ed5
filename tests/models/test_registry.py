"""Model strings and objects that bring their own preparation."""

import gc
import importlib
import importlib.util
import json
import pickle
import threading
import weakref
from pathlib import Path
from types import SimpleNamespace

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.fixes import parse_version
from torch import nn

from sklearn_torch_bridge import (
    EmbeddingCache,
    FingerprintError,
    ForwardError,
    TorchFeatureExtractor,
    models,
    precompute,
)
from sklearn_torch_bridge.models import _registry
from tests import families
from tests.tiny_models import mlp

OLD_SKLEARN = parse_version(sklearn.__version__) < parse_version("1.7")
SAME = {"rtol": 0, "atol": 1e-6}
# Not normalised, values reach 1.5, and `encode` itself differs by 1e-6 by batch size.
PLAIN = {"rtol": 0, "atol": 3e-6}

ABOUT_SCRIPT = pytest.mark.filterwarnings(
    # torch.jit is deprecated, and its users are still ours.
    "ignore:.*torch.jit"
)


@pytest.fixture
def own_registry(monkeypatch):
    """Load strings anew, and forget what a test registers."""
    monkeypatch.setattr(_registry, "_BY_STRING", _registry._Loaded())
    monkeypatch.setattr(_registry, "_LIBRARIES", dict(_registry._LIBRARIES))


# sentence-transformers --------------------------------------------------------------


def parts_of(minilm_path):
    """Give the modules of the model without the last one, which normalises."""
    whole = SentenceTransformer(minilm_path, device="cpu")
    return [part for part in whole if not isinstance(part, Normalize)]


def saved(model, folder):
    model.save_pretrained(str(folder))
    return str(folder)


def test_a_name_equals_encode(minilm_path, texts):
    expected = SentenceTransformer(minilm_path, device="cpu").encode(texts)
    Z = TorchFeatureExtractor(f"st:{minilm_path}", batch_size=3).fit_transform(texts)
    np.testing.assert_allclose(Z, expected, **SAME)
    assert np.allclose(np.linalg.norm(Z, axis=1), 1)


def test_a_model_without_normalisation_equals_encode(minilm_path, texts, tmp_path):
    model = SentenceTransformer(modules=parts_of(minilm_path), device="cpu")
    Z = TorchFeatureExtractor(f"st:{saved(model, tmp_path / 'm')}").transform(texts)
    np.testing.assert_allclose(Z, model.encode(texts), **PLAIN)
    assert not np.allclose(np.linalg.norm(Z, axis=1), 1)


@pytest.mark.parametrize("include_prompt", [True, False])
def test_the_prompt_of_a_model_stands_before_each_text(
    minilm_path, texts, tmp_path, include_prompt
):
    model = SentenceTransformer(
        modules=parts_of(minilm_path),
        device="cpu",
        prompts={"query": "a question about trains: "},
        default_prompt_name="query",
    )
    (pooling,) = [part for part in model if isinstance(part, Pooling)]
    pooling.include_prompt = include_prompt
    expected = model.encode(texts)
    without = model.encode(texts, prompt="")
    assert np.abs(expected - without).max() > 0.01
    for given in (model, f"st:{saved(model, tmp_path / 'm')}"):
        Z = TorchFeatureExtractor(given, batch_size=3).transform(texts)
        np.testing.assert_allclose(Z, expected, **PLAIN)


def test_a_model_that_truncates_equals_encode(minilm_path, texts):
    model = SentenceTransformer(minilm_path, device="cpu", truncate_dim=64)
    Z = TorchFeatureExtractor(model).fit_transform(texts)
    np.testing.assert_allclose(Z, model.encode(texts), **SAME)
    assert Z.shape[1] == 64


@pytest.mark.parametrize("mode", ["cls", "max", "mean"])
def test_layers_are_pooled_as_the_model_pools(minilm_path, texts, mode):
    transformer, pooling = parts_of(minilm_path)
    pooling.pooling_mode = mode
    model = SentenceTransformer(modules=[transformer, pooling], device="cpu")
    last = "0.model.encoder.layer.5"
    Z = TorchFeatureExtractor(model, layer=last).transform(texts)
    np.testing.assert_allclose(Z, model.encode(texts), rtol=1e-5, atol=1e-5)


def test_a_name_that_is_not_there_says_what_to_do():
    with pytest.raises(ValueError, match=r"'st:no/such' must be a folder .* hub"):
        TorchFeatureExtractor("st:no/such").transform(["a"])


# skorch ------------------------------------------------------------------------------


@pytest.fixture
def net(rng):
    """Give a net that skorch has trained a little."""
    skorch = pytest.importorskip("skorch")
    torch.manual_seed(0)
    net = skorch.NeuralNetRegressor(mlp, max_epochs=1, verbose=0, train_split=None)
    X = rng.normal(size=(20, 4)).astype("float32")
    return net.fit(X, np.zeros((20, 3), "float32"))


def test_a_net_of_skorch_is_its_module(net, rng):
    X = rng.normal(size=(9, 4)).astype("float32")
    Z = TorchFeatureExtractor(net, layer="act").fit_transform(X)
    expected = TorchFeatureExtractor(net.module_, layer="act").transform(X)
    np.testing.assert_array_equal(Z, expected)
    pipe = make_pipeline(TorchFeatureExtractor(net), LogisticRegression())
    y = np.arange(9) % 2
    search = GridSearchCV(
        pipe, {"torchfeatureextractor__layer": ["act", None]}, cv=2, n_jobs=2
    )
    assert search.fit(X, y).predict(X).shape == (9,)
    assert search.best_estimator_[0].model is net


def test_a_net_that_is_not_initialized_says_so():
    skorch = pytest.importorskip("skorch")
    with pytest.raises(ValueError, match="call its `fit` or `initialize` first"):
        TorchFeatureExtractor(skorch.NeuralNet(mlp, nn.MSELoss)).transform([[1.0] * 4])


# Files of PyTorch -------------------------------------------------------------------


@pytest.fixture
def silero():
    """Give a pretrained model for speech as TorchScript, which a package carries."""
    spec = importlib.util.find_spec("silero_vad")
    return Path(spec.submodule_search_locations[0], "data", "silero_vad.jit")


def windows(rows):
    """Give windows of 32 ms, with their rate."""
    return torch.from_numpy(np.stack(rows)), 16_000


@ABOUT_SCRIPT
def test_a_torchscript_file_gives_what_it_gives_by_hand(silero, rng):
    X = rng.normal(size=(6, 512)).astype("float32")
    expected = torch.jit.load(silero)(*windows(X)).detach().numpy()
    extractor = TorchFeatureExtractor(f"torchscript:{silero}", preprocess=windows)
    for _ in range(2):  # what it remembers of a run is forgotten
        np.testing.assert_allclose(extractor.transform(X), expected, rtol=1e-6)


@ABOUT_SCRIPT
def test_a_script_module_is_left_as_it_was(silero, rng):
    module = torch.jit.load(silero).train()
    X = rng.normal(size=(4, 512)).astype("float32")
    TorchFeatureExtractor(module, preprocess=windows).transform(X)
    assert module._c.getattr("_last_batch_size") == 0
    assert all(part.training for part in module.modules())


@ABOUT_SCRIPT
def test_inside_a_script_nothing_can_be_heard(silero, rng):
    extractor = TorchFeatureExtractor(
        f"torchscript:{silero}", preprocess=windows, layer="_model.encoder"
    )
    with pytest.raises(ValueError, match="must not name a scripted module or a part"):
        extractor.transform(rng.normal(size=(4, 512)).astype("float32"))


@pytest.fixture
def exported(tmp_path):
    """Give a program that takes any number of rows, and its module."""
    module = mlp().eval()
    program = torch.export.export(
        module,
        (torch.zeros(2, 4),),
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
    )
    torch.export.save(program, tmp_path / "mlp.pt2")
    return f"export:{tmp_path / 'mlp.pt2'}", module


def test_an_exported_program_gives_what_its_module_gives(exported, rng):
    name, module = exported
    X = rng.normal(size=(7, 4))
    Z = TorchFeatureExtractor(name, batch_size=3).fit_transform(X)
    expected = TorchFeatureExtractor(module, batch_size=3).transform(X)
    np.testing.assert_allclose(Z, expected, **SAME)


def test_an_exported_program_of_one_batch_size_says_so(tmp_path, rng):
    program = torch.export.export(mlp().eval(), (torch.zeros(2, 4),))
    torch.export.save(program, tmp_path / "mlp.pt2")
    extractor = TorchFeatureExtractor(f"export:{tmp_path}/mlp.pt2", batch_size=2)
    assert extractor.transform(rng.normal(size=(4, 4))).shape[0] == 4
    with pytest.raises(ForwardError, match=r"on row 4, .* 2"):
        extractor.transform(rng.normal(size=(5, 4)))


class Planted:
    """Tells when a pickle is loaded that may run code."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('code of a file was run')",))


@pytest.mark.skipif(
    torch.__version__ < (2, 13), reason="older archives have another layout"
)
def test_a_pickle_in_an_exported_program_is_not_run(exported, tmp_path):
    """A program whose weight was replaced by a pickle that runs code."""
    name, _ = exported
    source = name.removeprefix("export:")
    evil = tmp_path / "evil.pt2"
    torch.save(Planted(), tmp_path / "planted.pt")
    reader = torch._C.PyTorchFileReader(source)
    writer = torch._C.PyTorchFileWriter(str(evil))
    for entry in reader.get_all_records():
        content = bytes(reader.get_record(entry))
        if entry.endswith("model_weights_config.json"):
            config = json.loads(content)
            for payload in config["config"].values():
                payload["use_pickle"] = True
            content = json.dumps(config).encode()
        elif "/weights/weight_" in entry:
            content = (tmp_path / "planted.pt").read_bytes()
        if entry not in (".data/version", ".data/serialization_id", "byteorder"):
            writer.write_record(entry, content, len(content))
    writer.write_end_of_file()
    with pytest.raises(ValueError, match=r"must be a file that `torch.export.save`"):
        TorchFeatureExtractor(f"export:{evil}").transform(np.ones((1, 4)))


@pytest.mark.parametrize("prefix", ["torchscript", "export"])
@ABOUT_SCRIPT
def test_a_flipped_bit_in_a_weight_is_told(prefix, exported, tmp_path):
    """torch reads it as another weight."""
    path = tmp_path / "mlp.pt2"
    module = exported[1]
    if prefix == "torchscript":
        torch.jit.save(torch.jit.script(module), path)
    raw = bytearray(path.read_bytes())
    place = raw.find(module.first.weight.detach().numpy().tobytes())
    assert place > 0
    raw[place + 3] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=r"has written: its part .* is damaged"):
        TorchFeatureExtractor(f"{prefix}:{path}").transform(np.ones((1, 4)))


@pytest.mark.parametrize("prefix", ["timm", "torchvision"])
def test_a_pickle_for_a_library_is_not_run(prefix, tmp_path, monkeypatch):
    """Whatever it asks of `torch.load`: torchvision asks for all."""
    torch.save(Planted(), tmp_path / "planted.pt")

    def load(*_, **__):
        torch.load(tmp_path / "planted.pt", weights_only=False)

    models_of_it = SimpleNamespace(
        get_model_weights=lambda _: SimpleNamespace(DEFAULT=None),
        get_model_builder=lambda _: load,
    )
    library = SimpleNamespace(create_model=load, models=models_of_it)
    module = importlib.import_module(f"sklearn_torch_bridge.models._{prefix}")
    monkeypatch.setattr(module, "import_optional", lambda *_, **__: library)
    with pytest.raises(ValueError, match="Weights only load failed"):
        TorchFeatureExtractor(f"{prefix}:planted").transform(np.ones((1, 3, 8, 8)))


def test_code_in_the_folder_of_a_sentence_transformer_is_not_run(tmp_path):
    (tmp_path / "evil.py").write_text("raise SystemExit('code of a folder was run')")
    modules = [{"idx": 0, "name": "0", "path": "", "type": "evil.Evil"}]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ValueError, match=r"got 'evil\.Evil', whose code would have to"):
        TorchFeatureExtractor(f"st:{tmp_path}").transform(["a"])


@pytest.mark.parametrize("prefix", ["torchscript", "export"])
@ABOUT_SCRIPT
def test_a_file_that_is_missing_or_another_is_named(prefix, tmp_path):
    X = np.ones((1, 4))
    with pytest.raises(ValueError, match="must name a file, and there is none"):
        TorchFeatureExtractor(f"{prefix}:{tmp_path}/gone.pt").transform(X)
    (tmp_path / "text.pt").write_text("no model")
    with pytest.raises(ValueError, match=r"must be a file that `torch\."):
        TorchFeatureExtractor(f"{prefix}:{tmp_path}/text.pt").transform(X)


@ABOUT_SCRIPT
def test_another_file_is_another_model_for_a_cache(tmp_path, rng):
    X = rng.normal(size=(3, 4)).astype("float32")
    path, store = tmp_path / "m.pt", EmbeddingCache(tmp_path / "e.db")
    extractor = TorchFeatureExtractor(f"torchscript:{path}", cache=store)
    for seed in (0, 1):
        torch.manual_seed(seed)
        module = nn.Linear(4, 2)
        torch.jit.save(torch.jit.script(module), path)
        expected = module(torch.from_numpy(X)).detach().numpy()
        np.testing.assert_allclose(extractor.transform(X), expected, rtol=1e-5)


# Strings of one's own ---------------------------------------------------------------


@pytest.mark.usefixtures("own_registry")
class TestRegister:
    def test_a_loader_is_called_once(self):
        names = []

        def load(name):
            names.append(name)
            return nn.Linear(2, int(name))

        models.register("tiny", load)
        for _ in range(2):
            assert TorchFeatureExtractor("tiny:3").transform([[1.0, 2]]).shape == (1, 3)
        assert names == ["3"]

    def test_what_a_model_brings_is_used(self):
        def load(name):
            return models.LoadedModel(
                nn.Identity(),
                preprocess=lambda texts: torch.tensor([[float(len(t))] for t in texts]),
                pooling=lambda hidden, mask: hidden * float(name),
            )

        models.register("length", load)
        Z = TorchFeatureExtractor("length:2").transform(["a", "bcd"])
        assert Z[:, 0].tolist() == [2, 6]

    def test_media_that_a_model_brings_take_paths(self, tmp_path):
        def read(paths):
            return torch.tensor([[float(p.read_text())] for p in paths])

        models.register("file", lambda _: models.LoadedModel(nn.Identity(), media=read))
        (tmp_path / "a").write_text("7")
        Z = TorchFeatureExtractor("file:x").transform([str(tmp_path / "a")])
        assert Z.item() == 7

    def test_what_is_not_here_yet_is_loaded_to_say_what_it_takes(self, tmp_path):
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

        _registry._LIBRARIES["hub"] = _registry._Library(load, None, files, opens)
        (tmp_path / "a").write_text("7")
        assert TorchFeatureExtractor("hub:x").transform([f"{tmp_path}/a"]).item() == 7

    def test_files_tell_a_model_apart_without_loading(self, tmp_path):
        loads = []

        def load(name):
            loads.append(name)
            return nn.Linear(2, int(Path(name).read_text()))

        models.register("sized", load, files=lambda name: [Path(name)])
        (tmp_path / "size").write_text("3")
        extractor = TorchFeatureExtractor(
            f"sized:{tmp_path}/size", cache=tmp_path / "e.db"
        )
        extractor.transform([[1.0, 2]])
        _registry._BY_STRING.forget(f"sized:{tmp_path}/size")
        extractor.transform([[1.0, 2]])
        assert len(loads) == 1
        (tmp_path / "size").write_text("4")
        assert extractor.transform([[1.0, 2]]).shape == (1, 4)

    def test_weights_tell_a_model_apart_where_no_files_do(self, tmp_path):
        scale = {"a": 1.0}

        def load(name):
            module = nn.Linear(1, 1, bias=False)
            nn.init.constant_(module.weight, scale[name])
            return module

        models.register("scaled", load)
        extractor = TorchFeatureExtractor("scaled:a", cache=tmp_path / "e.db")
        assert extractor.transform([[2.0]]).item() == 2
        _registry._BY_STRING.forget("scaled:a")
        scale["a"] = 3.0
        models_seen = extractor.transform([[2.0]])
        assert models_seen.item() == 6

    def test_what_a_model_brings_tells_it_apart(self, tmp_path):
        def load(name):
            return models.LoadedModel(nn.Identity(), preprocess=Multiplied(int(name)))

        models.register("times", load)
        store = EmbeddingCache(tmp_path / "e.db")
        for name in ("2", "3"):
            Z = TorchFeatureExtractor(f"times:{name}", cache=store).transform(["1"])
            assert Z.item() == int(name)

    def test_a_process_that_is_told_need_not_load(self, tmp_path):
        models.register("tiny", lambda name: nn.Linear(2, int(name)))
        extractor = TorchFeatureExtractor("tiny:3", cache=tmp_path / "e.db")
        Z = extractor.transform([[1.0, 2]])
        sent = pickle.dumps(extractor)
        _registry._BY_STRING.forget("tiny:3")
        models.register("tiny", None)  # as in a process without the model
        np.testing.assert_array_equal(pickle.loads(sent).transform([[1.0, 2]]), Z)  # noqa: S301 - made above

    def test_weights_that_were_loaded_here_count_whatever_others_tell(self, tmp_path):
        scale = {"a": 1.0}

        def load(name):
            module = nn.Linear(1, 1, bias=False)
            nn.init.constant_(module.weight, scale[name])
            return module

        models.register("scaled", load)
        extractor = TorchFeatureExtractor("scaled:a", cache=tmp_path / "e.db")
        assert extractor.transform([[2.0]]).item() == 2
        sent = pickle.dumps(extractor)
        _registry._BY_STRING.forget("scaled:a")
        scale["a"] = 3.0
        other = TorchFeatureExtractor("scaled:a", cache=tmp_path / "e.db")
        assert other.transform([[2.0]]).item() == 6
        received = pickle.loads(sent)  # noqa: S301 - made above
        assert received.transform([[2.0]]).item() == 6

    def test_what_cannot_be_identified_asks_for_a_key(self, tmp_path):
        def load(_):
            lock = threading.Lock()
            return models.LoadedModel(
                nn.Identity(),
                preprocess=lambda rows: lock and torch.ones(len(rows), 1),
            )

        models.register("odd", load)
        extractor = TorchFeatureExtractor("odd:a", cache=tmp_path / "e.db")
        with pytest.raises(FingerprintError, match="cache_key"):
            extractor.transform(["a"])
        keyed = extractor.set_params(cache_key="1")
        assert keyed.transform(["a"]).shape == (1, 1)

    def test_what_no_loader_may_return_is_named(self):
        models.register("bad", lambda _: 3)
        with pytest.raises(TypeError, match=r"'bad:x'.* must return a .* got int"):
            TorchFeatureExtractor("bad:x").transform([[1.0]])

    def test_a_prefix_must_be_a_name(self):
        with pytest.raises(ValueError, match="must be an identifier, got 'a b'"):
            models.register("a b", nn.Identity)
        with pytest.raises(ValueError, match="must be an identifier, got None"):
            models.register(None, nn.Identity)

    def test_a_prefix_is_of_one_process(self):
        with pytest.raises(ValueError, match="'nobodys' would have to be registered"):
            TorchFeatureExtractor("nobodys:x").transform([[1.0]])


class Multiplied:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, rows):
        return torch.tensor([[float(row) * self.factor] for row in rows])


# How long they stay -----------------------------------------------------------------


@pytest.mark.usefixtures("own_registry")
class TestKept:
    @pytest.fixture(autouse=True)
    def _loads(self):
        self.loads = []

        def load(name):
            self.loads.append(name)
            return nn.Linear(2, 2)

        models.register("tiny", load)

    def use(self, name):
        TorchFeatureExtractor(f"tiny:{name}").transform([[1.0, 2]])

    def test_models_that_nobody_uses_are_freed(self):
        watched = []
        for name in range(12):
            self.use(name)
            module = _registry.load_model(f"tiny:{name}").module
            watched.append(weakref.ref(module))
            del module
        gc.collect()
        alive = [one() is not None for one in watched]
        assert alive == [False] * 4 + [True] * 8

    def test_a_model_in_use_stays(self):
        held = _registry.load_model("tiny:held")
        for name in range(12):
            self.use(name)
        assert _registry.load_model("tiny:held") is held

    def test_the_models_used_last_stay(self):
        for name in [*range(8), 0, 8]:
            self.use(name)
        self.use(0)
        assert self.loads.count("0") == 1

    def test_large_models_make_room(self, monkeypatch):
        monkeypatch.setattr(_registry, "available_bytes", lambda: 100)
        self.use("a")
        self.use("b")
        self.use("a")
        assert self.loads == ["a", "b", "a"]


# In scikit-learn --------------------------------------------------------------------


def test_a_search_over_strings_loads_each_once_and_sends_none(
    minilm_path, texts, tmp_path, monkeypatch
):
    """Neither weights nor modules travel: the largest task is a few kilobytes."""
    monkeypatch.setattr(_registry, "_BY_STRING", _registry._Loaded())
    loads = []
    load = _registry._load_string
    monkeypatch.setattr(
        _registry, "_load_string", lambda name: loads.append(name) or load(name)
    )
    families.save(tmp_path, families.TEXTS["bert"][0], families.make_tokenizer())
    strings = [f"hf:{minilm_path}", f"st:{minilm_path}", f"hf:{tmp_path}"]
    X = np.array(texts * 3, dtype=object)
    y = np.arange(len(X)) % 2
    pipe = make_pipeline(TorchFeatureExtractor(strings[0]), LogisticRegression())
    grid = {"torchfeatureextractor__model": strings}
    search = GridSearchCV(pipe, grid, cv=3, refit=False).fit(X, y)
    assert sorted(loads) == sorted(strings)
    assert not np.isnan(search.cv_results_["mean_test_score"]).any()
    assert len(pickle.dumps(search.set_params(estimator=pipe))) < 10_000
    parallel = GridSearchCV(pipe, grid, cv=3, refit=False, n_jobs=2)
    with joblib.parallel_config("loky"):
        parallel.fit(X, y)
    np.testing.assert_allclose(
        parallel.cv_results_["mean_test_score"], search.cv_results_["mean_test_score"]
    )


def test_precompute_serves_a_search_over_strings(minilm_path, texts, tmp_path):
    extractor = TorchFeatureExtractor(f"hf:{minilm_path}", cache=tmp_path / "e.db")
    pipe = make_pipeline(extractor, LogisticRegression())
    grid = {"torchfeatureextractor__model": [f"hf:{minilm_path}", f"st:{minilm_path}"]}
    search = GridSearchCV(pipe, grid, cv=2)
    done = precompute(search, texts)
    assert (done.n_settings, done.n_passes) == (2, 2)
    assert done.n_run == 2 * len(set(texts))
    assert precompute(search, texts).n_run == 0


@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_a_column_of_a_frame(minilm_path, texts, container):
    if container == "polars" and OLD_SKLEARN:
        pytest.skip("scikit-learn 1.6 asks frames for what polars 2 has no more")
    columns = {"review": texts, "stars": np.arange(len(texts)) * 1.0}
    frame = (pd if container == "pandas" else pl).DataFrame(columns)
    extractor = TorchFeatureExtractor(f"st:{minilm_path}")
    expected = extractor.transform(texts)
    by_name = ColumnTransformer(
        [("text", extractor, "review"), ("number", StandardScaler(), ["stars"])]
    )
    by_list = make_column_transformer((extractor, ["review"]))
    Z = by_name.fit_transform(frame)
    np.testing.assert_allclose(Z[:, :384], expected, **SAME)
    assert Z.shape == (len(texts), 385)
    np.testing.assert_allclose(by_list.fit_transform(frame), expected, **SAME)
    with pytest.raises(ValueError, match="must hold str in every row, but row 1"):
        by_list.fit_transform(pd.DataFrame({"review": ["a", None]}))


def test_wrong_columns_are_named(minilm_path, texts):
    extractor = TorchFeatureExtractor(f"hf:{minilm_path}")
    extractor.fit(pd.DataFrame({"review": texts}))
    with pytest.raises(ValueError, match="feature names"):
        extractor.transform(pd.DataFrame({"other": texts}))
    with pytest.raises(ValueError, match="names unseen at fit time:\n- other"):
        extractor.transform(pd.DataFrame({"review": texts, "other": texts}))
