"""A saved extractor is plain data, whole or not there, and comes back as it was."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge._storing._saved_folder import (
    CONFIG,
    WEIGHTS,
)
from tests.processes import run_code
from tests.saved_extractors import LOAD, build, edit, saved
from tests.tiny_models import mlp


def first_row(X):
    """Be a callable preprocess."""
    return torch.as_tensor(np.asarray(X), dtype=torch.float32)


def middle(hidden, _):
    """Be a callable pooling."""
    return hidden


# --- What comes back ---------------------------------------------------------------


def test_the_results_and_the_names_come_back(folder, X):
    extractor = TorchFeatureExtractor(mlp(), layer=["first", "act"]).fit(X)
    extractor.save(folder)
    loaded = LOAD(folder, mlp(seed=1))
    np.testing.assert_array_equal(loaded.transform(X), extractor.transform(X))
    names = extractor.get_feature_names_out()
    np.testing.assert_array_equal(loaded.get_feature_names_out(), names)
    assert loaded.transform(X[:0]).shape == (0, 16)
    assert loaded.n_features_in_ == 4


def test_all_that_was_learnt_comes_back(folder, X):
    """Who adds an attribute adds it to `_LEARNT` in `_save_and_load`."""
    # As objects: pyarrow, where it is there, would not take a lone surrogate.
    names = pd.Index(["a", "b", "ç", "\ud800"], dtype=object)
    frame = pd.DataFrame(X, columns=names)
    extractor = TorchFeatureExtractor(mlp()).set_output(transform="pandas").fit(frame)
    extractor.save(folder)
    loaded = LOAD(folder, build)
    assert vars(loaded).keys() == vars(extractor).keys()
    pd.testing.assert_frame_equal(loaded.transform(frame), extractor.transform(frame))
    with pytest.raises(ValueError, match="feature names should match"):
        loaded.transform(frame.iloc[:, [1, 0, 2, 3]])


PARAMETERS = {
    "layer": ["first", ["first", "act"], ("act",), "**", None],
    "output": [None, "hidden", 0, -1],
    "pooling": ["max", None],
    "batch_size": [7, np.int64(7)],
    "device": ["cpu", torch.device("cpu"), ["cpu", torch.device("meta")]],
    "dtype": ["float64", None, np.float16, np.dtype("<i4"), float],
}


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, values in PARAMETERS.items() for v in values]
)
def test_parameters_come_back(folder, name, value):
    extractor = saved(folder, "hf:x", **{name: value})
    loaded = LOAD(folder)
    assert loaded.get_params() == extractor.get_params()
    if name != "dtype":
        plain = value.item() if isinstance(value, np.generic) else value
        assert type(getattr(loaded, name)) is type(plain)


def test_a_real_model_comes_back(folder, minilm, minilm_path, tokenizer, texts):
    from transformers import AutoConfig, AutoModel

    extractor = saved(folder, minilm, preprocess=tokenizer)

    def architecture():
        return AutoModel.from_config(AutoConfig.from_pretrained(minilm_path))

    loaded = LOAD(folder, architecture, preprocess=tokenizer)
    expected = extractor.transform(texts)
    np.testing.assert_array_equal(loaded.transform(texts), expected)
    weights = sum(weight.nbytes for weight in minilm.parameters())
    assert (folder / WEIGHTS).stat().st_size < 1.001 * weights
    by_name = LOAD(folder, f"hf:{minilm_path}", preprocess=tokenizer)
    assert type(by_name.model) is type(minilm)
    np.testing.assert_array_equal(by_name.transform(texts), expected)


def test_a_model_string_needs_nothing_else(folder, minilm_path, texts, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    extractor = saved(folder, f"hf:{minilm_path}", layer="encoder.layer.1")
    loaded = LOAD(folder)
    monkeypatch.undo()
    assert [path.name for path in folder.iterdir()] == [CONFIG]
    np.testing.assert_array_equal(loaded.transform(texts), extractor.transform(texts))


def test_another_string_may_take_the_place_of_one(folder):
    saved(folder, "hf:old/place", layer="x")
    loaded = LOAD(folder, "hf:new/place")
    assert (loaded.model, loaded.layer) == ("hf:new/place", "x")


# --- What must be given again ------------------------------------------------------


def test_callables_are_given_again(folder, X):
    extractor = TorchFeatureExtractor(mlp, preprocess=first_row, pooling=middle)
    extractor.fit(X).save(folder)
    assert not (folder / WEIGHTS).exists()
    objects = {"model": mlp, "preprocess": first_row, "pooling": middle}
    loaded = LOAD(folder, **objects)
    assert loaded.get_params() == extractor.get_params()
    np.testing.assert_array_equal(loaded.transform(X), extractor.transform(X))
    for name, kind in [
        ("model", "tests.tiny_models.mlp"),
        ("preprocess", "first_row"),
        ("pooling", "middle"),
    ]:
        words = f"`{name}` must be given to `load` again: it was .*{kind}, and objects"
        with pytest.raises(ValueError, match=words):
            LOAD(folder, **{**objects, name: None})


def test_a_tokenizer_is_given_again(folder, minilm_path, tokenizer):
    saved(folder, f"hf:{minilm_path}", preprocess=tokenizer)
    with pytest.raises(ValueError, match="`preprocess` must be given to `load` again"):
        LOAD(folder)
    assert LOAD(folder, preprocess=tokenizer).preprocess is tokenizer


@pytest.mark.parametrize("name", ["preprocess", "pooling"])
def test_what_was_stored_is_not_given(folder, name):
    saved(folder)
    with pytest.raises(ValueError, match=f"`{name}` must not be given to `load`: it"):
        LOAD(folder, mlp, **{name: middle})


def test_a_callable_must_make_the_same_weights(folder):
    saved(folder, mlp)
    assert LOAD(folder, mlp).model is mlp
    same = mlp()
    assert LOAD(folder, same).model is same
    for other in (build, mlp(seed=3)):
        with pytest.raises(ValueError, match="`model` must have the weights that were"):
            LOAD(folder, other)


def test_a_callable_whose_weights_cannot_be_read_is_believed(folder):
    def lazy():
        return nn.LazyLinear(3)

    saved(folder, lazy)
    assert LOAD(folder, lazy).model is lazy


def test_an_architecture_with_other_ties_is_told(folder):
    saved(folder, nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)))

    def with_ties():
        module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        module[0].weight = module[1].weight
        return module

    with pytest.raises(ValueError, match="Has it other ties"):
        LOAD(folder, with_ties)


@pytest.mark.parametrize(
    "model", [lambda: 3, 3, nn.Linear], ids=["a function", "a number", "a class"]
)
def test_no_module_is_told(folder, model):
    saved(folder)
    with pytest.raises(TypeError, match=r"`model` must be|missing 2 required"):
        LOAD(folder, model)


def test_a_module_that_cannot_be_copied_is_told(folder):
    saved(folder)
    model = mlp()
    model.rows = (row for row in ())
    with pytest.raises(
        TypeError, match="`model` must be copyable, so that yours stays"
    ):
        LOAD(folder, model)


# --- What cannot be saved ----------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{"layer": object()}, {"device": b"cpu"}, {"output": {1}}],
    ids=lambda options: next(iter(options)),
)
def test_a_parameter_of_another_kind_is_told(folder, options):
    (name,) = options
    with pytest.raises(TypeError, match=f"`{name}` must be made of str, numbers"):
        saved(folder, **options)
    assert not folder.exists()


class WithCache(TorchFeatureExtractor):
    def __init__(self, model, *, cache=None):
        super().__init__(model)
        self.cache = cache


def test_a_place_on_this_machine_is_left_out(folder):
    WithCache("hf:x", cache="rows.db").save(folder)
    assert "rows.db" not in (folder / CONFIG).read_text()
    assert WithCache.load(folder).cache is None


# --- Trust -------------------------------------------------------------------------


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


FORGERIES = {
    "unknown parameter": {"parameters": {"model": "hf:x", "hook": "os.system"}},
    "a place on this machine": {"parameters": {"model": "hf:x", "cache": "/etc/x"}},
    "a method": {"learnt": {"transform": "x"}},
    "the class of an object": {"learnt": {"__class__": "x"}},
    "a kind": {"parameters": {"model": {"class": "os.system"}}},
    "no model": {"parameters": {}},
    "another object": {"again": {"verbose": "x"}},
    "no dict": {"parameters": []},
    "weights": {"weights": {"stored": True}},
    "names of tensors": {"weights": {"stored": True, "digest": "", "tensors": {}}},
    "path": {"weights": {"stored": True, "digest": "../x", "tensors": {"a": 1}}},
    "nesting": {"parameters": {"model": "hf:x", "layer": nested(900)}},
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_settings_are_an_error_and_run_nothing(folder, name):
    saved(folder, "hf:x")
    edit(folder, honest=True, **FORGERIES[name])
    with pytest.raises((ValueError, TypeError)):
        TorchFeatureExtractor.load(folder)


@pytest.mark.parametrize("model", ["torchscript:x.pt", "export:x.pt2", 3], ids=str)
def test_forged_settings_name_no_program(folder, model):
    """`save` never stores one; a transform would run it."""
    saved(folder, "hf:x")
    edit(folder, honest=True, parameters={"model": model})
    with pytest.raises(ValueError, match="saved `model` must be one that `save` store"):
        LOAD(folder)


def test_a_string_that_names_a_program_is_given_again(folder):
    saved(folder, "torchscript:model.pt")
    with pytest.raises(
        ValueError, match=r"`model` must be given to `load` again.* a program to run"
    ):
        LOAD(folder)
    assert LOAD(folder, "torchscript:model.pt").model == "torchscript:model.pt"


AUDIT = """
import sys
import torch
from sklearn_torch_bridge import TorchFeatureExtractor

def hook(event, args):
    if event in ("exec", "compile", "import", "os.system", "pickle.find_class"):
        sys.exit(f"{event} {args}")
    if event == "open":
        print(args[0])

folder = sys.argv[1]
TorchFeatureExtractor.load(folder, torch.nn.Linear(4, 2))  # imports what is needed
sys.addaudithook(hook)
TorchFeatureExtractor.load(folder, torch.nn.Linear(4, 2))
"""


def test_loading_opens_no_other_file_and_unpickles_nothing(folder):
    saved(folder, nn.Linear(4, 2), layer="act")
    run = run_code(AUDIT, folder)
    assert run.returncode == 0, run.stderr
    # safetensors opens its file by itself
    assert set(run.stdout.split()) == {str(folder / CONFIG)}


# --- skops -------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["string", "callable"])
def test_skops_stores_strings_and_callables(model, minilm_path, X, texts):
    skops = pytest.importorskip("skops.io", reason="skops is not installed")
    rows = texts if model == "string" else X
    given = f"hf:{minilm_path}" if model == "string" else mlp
    pipe = make_pipeline(TorchFeatureExtractor(given), LogisticRegression())
    pipe.fit(rows, np.arange(len(rows)) % 2)
    data = skops.dumps(pipe)
    names = skops.get_untrusted_types(data=data)
    found = skops.loads(data, trusted=names)
    np.testing.assert_array_equal(found.predict_proba(rows), pipe.predict_proba(rows))
    ours = "sklearn_torch_bridge.TorchFeatureExtractor"
    expected = {ours} | ({"tests.tiny_models.mlp"} if model == "callable" else set())
    assert set(names) == expected
