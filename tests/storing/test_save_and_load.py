"""A saved extractor is plain data, whole or not there, and comes back as it was."""

import copy
import json
import os
import shutil
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor, share
from sklearn_torch_bridge._storing import _folder
from sklearn_torch_bridge._storing._folder import (
    CONFIG,
    NEXT_CONFIG,
    NEXT_WEIGHTS,
    WEIGHTS,
)
from tests.tiny_models import mlp
from tests.zoo import GENERATED_DTYPES, MODULES, modules, named, tied

LOAD = TorchFeatureExtractor.load
STORED_DTYPES = [one for one in GENERATED_DTYPES if one is not torch.complex128]


def build():
    """Be a factory, of other values each time."""
    return mlp(seed=torch.seed())


def first_row(X):
    """Be a callable preprocess."""
    return torch.as_tensor(np.asarray(X), dtype=torch.float32)


def middle(hidden, _):
    """Be a callable pooling."""
    return hidden


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "saved"


@pytest.fixture
def X(rng):
    return rng.normal(size=(6, 4)).astype(np.float32)


def saved(folder, model=None, **options):
    extractor = TorchFeatureExtractor(model or mlp(), **options)
    extractor.save(folder)
    return extractor


def edit(folder, *, honest=False, **changes):
    """Change settings; honestly, so that their digest is right again."""
    config = json.loads((folder / CONFIG).read_text())
    config |= changes
    if honest:
        config["digest"] = _folder._digest(config)
    (folder / CONFIG).write_text(json.dumps(config))


# --- What comes back ---------------------------------------------------------------


def assert_same_values(found, module):
    expected, ours = dict(named(module)), dict(named(found))
    assert list(ours) == list(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=0, msg=name)


def without_complex128():
    module = MODULES["dtypes"]()
    del module.of_complex128
    return module


BUILDERS = MODULES | {
    "dtypes": without_complex128,
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)),
    "attention": lambda: nn.MultiheadAttention(4, 2),
}


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("given_as", ["callable", "module", "handle"])
def test_the_weights_come_back(folder, name, given_as):
    torch.manual_seed(0)
    module = BUILDERS[name]()
    expected = copy.deepcopy(module)
    saved(folder, module)
    other = BUILDERS[name]()
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.untyped_storage().fill_(0)
    before = copy.deepcopy(other)
    model = {"callable": BUILDERS[name], "module": other, "handle": share(other)}
    found = LOAD(folder, model[given_as]).model
    assert type(found).__name__ == type(module).__name__
    assert_same_values(found, expected)
    assert_same_values(other, before)
    assert found is not other


@given(module=modules(STORED_DTYPES))
def test_generated_modules_come_back(tmp_path_factory, module):
    folder = tmp_path_factory.mktemp("parent") / "saved"
    expected = copy.deepcopy(module)
    saved(folder, module)
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.untyped_storage().fill_(0)
    found = LOAD(folder, module).model
    for name, tensor in (*expected.named_parameters(), *expected.named_buffers()):
        ours = dict(named(found))[name]
        torch.testing.assert_close(ours, tensor, rtol=0, atol=0)
    shutil.rmtree(folder)


def test_ties_are_those_of_the_architecture_and_stored_once(folder):
    saved(folder, tied())
    found = LOAD(folder, tied).model
    assert found[0].weight is found[1].weight is found[2].weight
    header = int.from_bytes((folder / WEIGHTS).read_bytes()[:8], "little")
    data = (folder / WEIGHTS).stat().st_size - 8 - header
    assert data == sum(weight.nbytes for weight in tied().parameters())


def test_conjugate_and_negative_views_are_stored_by_value(folder):
    def make(value):
        module, values = nn.Module(), torch.full((2,), value)
        module.register_buffer("plain", values)
        module.register_buffer("conjugate", values.conj())
        module.register_buffer("negative", values.conj().imag)
        return module

    saved(folder, make(1 + 2j))
    found = LOAD(folder, make(0j)).model
    assert found.plain.tolist() == [1 + 2j] * 2
    assert found.conjugate.tolist() == [1 - 2j] * 2
    assert found.negative.tolist() == [-2] * 2


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
    """Whoever adds an attribute, let him say in `_saving` that it is stored."""
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


def test_others_may_read_the_weights(folder):
    from safetensors.torch import load_file

    module = mlp()
    saved(folder, module)
    other = mlp(seed=1)
    other.load_state_dict(load_file(folder / WEIGHTS))
    assert_same_values(other, module)


def test_the_module_saved_stays_as_it_was(folder):
    module = nn.Linear(600, 600, bias=False)
    module.train().register_forward_hook(print)
    before = module.weight.detach().clone()
    saved(folder, module)
    assert module.training
    assert module.weight.requires_grad
    assert torch.equal(module.weight, before)
    assert module.weight.untyped_storage().resizable()


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


def other(**layers):
    return nn.Sequential(OrderedDict(mlp().named_children()) | layers)


MISFITS = {
    "missing": (
        lambda: other(second=nn.Identity()),
        r"must have 'second.bias' \(float32 \[3\]\), as saved",
    ),
    "surplus": (
        lambda: other(third=nn.Linear(3, 1)),
        r"has 'third.bias' \(float32 \[1\]\), which was not saved",
    ),
    "shape": (
        lambda: other(first=nn.Linear(5, 8)),
        r"'first.weight' as float32 \[8, 4\], as saved; got float32 \[8, 5\]",
    ),
    "dtype": (
        lambda: other().half(),
        r"as float32 \[.*\], as saved; got float16 \[",
    ),
}


@pytest.mark.parametrize("name", MISFITS)
def test_another_architecture_is_told(folder, name):
    model, words = MISFITS[name]
    saved(folder)
    with pytest.raises(ValueError, match=f"`model` .*{words}"):
        LOAD(folder, model)


def test_an_architecture_with_other_ties_is_told(folder):
    saved(folder, nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)))

    def with_ties():
        module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        module[0].weight = module[1].weight
        return module

    with pytest.raises(ValueError, match="Has it other ties"):
        LOAD(folder, with_ties)


@pytest.mark.parametrize("model", [lambda: 3, 3, nn.Linear], ids=str)
def test_no_module_is_told(folder, model):
    saved(folder)
    with pytest.raises(TypeError, match=r"`model` must be|missing 2 required"):
        LOAD(folder, model)


def test_a_module_that_cannot_be_copied_is_told(folder):
    saved(folder)
    model = mlp()
    model.graph = model.first.weight * 2
    with pytest.raises(
        TypeError, match="`model` must be copyable, so that yours stays"
    ):
        LOAD(folder, model)


# --- What cannot be saved ----------------------------------------------------------


class Extra(nn.Linear):
    def get_extra_state(self):
        return {"any": object()}


UNSTORABLE = {
    "lazy": (lambda: nn.LazyLinear(3), "'weight' is uninitialised: run one forward"),
    "meta": (lambda: nn.Linear(2, 2, device="meta"), "'weight' is on the meta device"),
    "extra state": (lambda: Extra(2, 2), "'_extra_state' is no tensor but dict"),
    "complex": (MODULES["dtypes"], "tensor of torch.complex128, which safetensors"),
}


def with_sparse_buffer():
    module = nn.Linear(2, 2)
    module.register_buffer("sparse", torch.eye(2).to_sparse())
    return module


def with_wrapped_buffer():
    from torch.testing._internal.two_tensor import TwoTensor

    module = nn.Linear(2, 2)
    module.register_buffer("wrapped", TwoTensor(torch.ones(2), torch.ones(2)))
    return module


UNSTORABLE["sparse"] = (with_sparse_buffer, "'sparse' is not dense")
UNSTORABLE["wrapped"] = (with_wrapped_buffer, "'wrapped' is a TwoTensor")


@pytest.mark.parametrize("name", UNSTORABLE)
def test_a_state_of_more_than_dense_tensors_is_told(folder, name):
    make, words = UNSTORABLE[name]
    with pytest.raises(ValueError, match=f"`model` .*{words}"):
        saved(folder, make())
    assert not folder.exists()


@pytest.mark.parametrize(
    "options", [{"layer": object()}, {"device": b"cpu"}, {"output": {1}}], ids=str
)
def test_a_parameter_of_another_kind_is_told(folder, options):
    (name,) = options
    with pytest.raises(TypeError, match=f"`{name}` must be made of str, numbers"):
        saved(folder, **options)
    assert not folder.exists()


def test_a_missing_package_names_its_extra(folder, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    words = r"pip install 'sklearn-torch-bridge\[safetensors\]'"
    with pytest.raises(ImportError, match=words):
        saved(folder)
    assert not folder.exists()


class WithCache(TorchFeatureExtractor):
    def __init__(self, model, *, cache=None):
        super().__init__(model)
        self.cache = cache


def test_a_place_on_this_machine_is_left_out(folder):
    WithCache("hf:x", cache="rows.db").save(folder)
    assert "rows.db" not in (folder / CONFIG).read_text()
    assert WithCache.load(folder).cache is None


# --- The folder --------------------------------------------------------------------


def test_a_saved_extractor_is_replaced_and_other_files_stay(folder, X):
    saved(folder)
    (folder / "README").write_text("mine")
    second = saved(folder, mlp(seed=5), layer="act")
    loaded = LOAD(folder, build)
    np.testing.assert_array_equal(loaded.transform(X), second.transform(X))
    names = {path.name for path in folder.iterdir()}
    assert names == {CONFIG, WEIGHTS, "README"}
    saved(folder, "hf:x")
    assert not (folder / WEIGHTS).exists()
    assert LOAD(folder).model == "hf:x"


def test_what_was_changed_may_be_replaced(folder):
    saved(folder)
    edit(folder, new=1)
    saved(folder, mlp(seed=1))
    assert_same_values(LOAD(folder, build).model, mlp(seed=1))


def test_an_empty_folder_is_taken(tmp_path):
    saved(tmp_path)
    assert LOAD(tmp_path, build).model.first.weight.equal(mlp().first.weight)


@pytest.mark.parametrize(
    "files",
    [
        *({"notes.txt": ""}, {WEIGHTS: ""}, {CONFIG: "{}"}, {CONFIG: "not JSON"}),
        *({CONFIG: '{"format": "other"}', WEIGHTS: ""}, {CONFIG: "[]"}),
    ],
    ids=str,
)
def test_a_folder_of_others_is_refused(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match="`folder` must be new, empty, or hold an"):
        saved(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files


def test_a_file_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(
        ValueError, match=r"`folder` must be a folder, and .* is a file"
    ):
        saved(path)
    assert path.read_text() == "mine"


def test_an_empty_or_a_missing_folder_holds_nothing(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ValueError, match="`folder` must hold a saved extractor"):
            LOAD(path)


# --- Damage ------------------------------------------------------------------------


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "flipped": (flip_a_bit, "must have the weights that were saved; their digest"),
    "cut": (lambda path: os.truncate(path, 200), "must be a whole file of weights"),
    "gone": (Path.unlink, "must be a whole file of weights"),
    "text": (lambda path: path.write_text("hello"), "must be a whole file of weights"),
    "empty": (lambda path: path.write_bytes(b""), "must be a whole file of weights"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_weights_are_told(folder, name):
    damage, words = DAMAGES[name]
    saved(folder)
    damage(folder / WEIGHTS)
    with pytest.raises(ValueError, match=words):
        LOAD(folder, mlp)


def test_the_weights_of_another_are_told(folder, tmp_path):
    saved(folder)
    saved(tmp_path / "other", mlp(seed=1))
    shutil.copy(tmp_path / "other" / WEIGHTS, folder / WEIGHTS)
    with pytest.raises(ValueError, match="the weights that were saved; their digest"):
        LOAD(folder, mlp)
    saved(tmp_path / "third", nn.Linear(4, 4))
    shutil.copy(tmp_path / "third" / WEIGHTS, folder / WEIGHTS)
    with pytest.raises(ValueError, match=r"the stored file must have 'first\.bias'"):
        LOAD(folder, mlp)


def test_weights_without_our_header_are_told(folder):
    from safetensors.torch import save_file

    saved(folder)
    save_file(mlp().state_dict(), folder / WEIGHTS)
    with pytest.raises(ValueError, match="must be a whole file of weights, as saved"):
        LOAD(folder, mlp)


EDITS = {
    "a parameter": {"parameters": {"batch_size": 1}},
    "the class": {"class": "os.system"},
    "the digest": {"digest": "0" * 128},
    "a key": {"new": 1},
}


@pytest.mark.parametrize("name", EDITS)
def test_edited_settings_are_told(folder, name):
    saved(folder)
    edit(folder, **EDITS[name])
    with pytest.raises(ValueError, match="must be as saved, and was changed"):
        LOAD(folder, mlp)


def test_settings_of_a_later_format_say_what_wrote_them(folder):
    saved(folder)
    edit(folder, format_version=2, versions={"sklearn-torch-bridge": "9.0"})
    with pytest.raises(ValueError, match=r"must be of format 1, got 2, of .*9\.0"):
        LOAD(folder, mlp)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, "\x00"])
def test_settings_that_are_none_are_told(folder, text):
    saved(folder)
    (folder / CONFIG).write_text(text)
    with pytest.raises(ValueError, match="must hold the settings of an extractor"):
        LOAD(folder, mlp)


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
    run = subprocess.run(
        [sys.executable, "-c", AUDIT, str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    # safetensors opens its file by itself
    assert set(run.stdout.split()) == {str(folder / CONFIG)}


# --- Interruptions -----------------------------------------------------------------


def test_everything_is_on_the_disk_before_it_counts(folder, monkeypatch):
    saved(folder)
    events = []
    sync, replace = os.fsync, Path.replace

    def spy(handle):
        number = os.fstat(handle).st_ino
        places = (folder, *folder.iterdir())
        events.extend(p.name for p in places if p.stat().st_ino == number)
        sync(handle)

    monkeypatch.setattr(os, "fsync", spy)
    monkeypatch.setattr(
        Path,
        "replace",
        lambda p, to: (events.append((p.name, to.name)), replace(p, to)),
    )
    saved(folder, mlp(seed=1))
    assert events == [
        *("saved", NEXT_WEIGHTS, NEXT_CONFIG, "saved", (NEXT_CONFIG, CONFIG), "saved"),
        *((NEXT_WEIGHTS, WEIGHTS), "saved"),
    ]


KILLED = """
import json, os, signal, sys
from pathlib import Path
import torch
from safetensors import torch as library
from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge._storing import _folder
from sklearn_torch_bridge._storing import _safetensors

FILES = {_folder.__file__, _safetensors.__file__}

def build(value):
    module = torch.nn.Linear(40, 20)
    torch.nn.init.constant_(module.weight, value)
    torch.nn.init.constant_(module.bias, value)
    return module

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def half_a_file(tensors, path, metadata):
    save(tensors, path, metadata=metadata)
    os.truncate(path, os.path.getsize(path) // 2)
    die()

def trace_lines(last):
    n_lines = 0
    def trace(frame, event, arg):
        nonlocal n_lines
        if frame.f_code.co_filename not in FILES:
            return None
        n_lines += event == "line"
        if n_lines == last:
            die()
        return trace
    return trace

def save_in_child(folder, value, last):
    # Kill the child at the `last`-th line of ours; tell whether it was.
    child = os.fork()
    if child:
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    if last:
        sys.settrace(trace_lines(last))
    else:
        library.save_file = half_a_file
    TorchFeatureExtractor(build(value), batch_size=value).save(folder)
    os._exit(0)

def found(folder):
    if not (folder / "config.json").exists():
        return 0
    extractor = TorchFeatureExtractor.load(folder, lambda: torch.nn.Linear(40, 20))
    values = extractor.model.weight.unique().tolist() + [extractor.model.bias[3].item()]
    assert values == [extractor.batch_size] * 2, values
    return extractor.batch_size

save = library.save_file
torch.set_num_threads(1)
step, outcomes, last, was_killed = int(sys.argv[3]), [], 0, True
while was_killed:
    folder = Path(sys.argv[1], str(last))
    if sys.argv[2] == "old":
        TorchFeatureExtractor(build(1), batch_size=1).save(folder)
    was_killed = save_in_child(folder, 2, last)
    outcomes.append(found(folder))
    save_in_child(folder, 3, 1 + 7 * last % 90)  # killed again, elsewhere
    assert found(folder) in (outcomes[-1], 3)
    TorchFeatureExtractor(build(4), batch_size=4).save(folder)
    assert found(folder) == 4
    assert sorted(os.listdir(folder)) == ["config.json", "model.safetensors"]
    last += step
print(json.dumps(outcomes))
"""


@pytest.mark.faults
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork and SIGKILL")
@pytest.mark.parametrize("before", ["old", "new"])
@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_a_kill_leaves_the_old_or_the_new(tmp_path, without_coverage, before, step):
    """At every `step`-th line of what writes, and in the middle of the weights."""
    run = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), before, str(step)],
        capture_output=True,
        text=True,
        check=False,
        env=without_coverage | {"OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    outcomes = json.loads(run.stdout)
    turn = outcomes.index(2)
    assert outcomes[:turn] == [1 if before == "old" else 0] * turn
    assert outcomes[turn:] == [2] * (len(outcomes) - turn)
    assert turn > 40 / step
    assert len(outcomes) - turn > 20 / step  # killed after the turn, too


FULL = """
import resource, sys
import torch
from sklearn_torch_bridge import TorchFeatureExtractor

TorchFeatureExtractor(torch.nn.Linear(4, 2)).save(sys.argv[2])  # imports all
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
TorchFeatureExtractor(torch.nn.Linear(40, 20), batch_size=2).save(sys.argv[1])
"""


@pytest.mark.faults
@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on files' sizes")
@pytest.mark.parametrize(
    ("before", "limit"), [("old", 0), ("old", 3_000), ("new", 3_000)]
)
def test_a_full_disk_leaves_what_was_there(
    folder, tmp_path, without_coverage, limit, before
):
    if before == "old":
        saved(folder, nn.Linear(40, 20), batch_size=1)
    run = subprocess.run(
        [sys.executable, "-c", FULL, str(folder), str(tmp_path / "x"), str(limit)],
        env=without_coverage,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    last = run.stderr.splitlines()[-1]
    assert last.startswith("OSError")
    assert "File too large" in last
    if before == "old":
        assert LOAD(folder, nn.Linear(40, 20)).batch_size == 1
        assert {path.name for path in folder.iterdir()} == {CONFIG, WEIGHTS}
    else:
        assert not folder.exists()


@pytest.mark.faults
@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write")
def test_a_folder_for_reading_only_is_told(folder):
    saved(folder)
    folder.chmod(0o500)
    with pytest.raises(PermissionError):
        saved(folder, mlp(seed=1))
    folder.chmod(0o700)
    assert LOAD(folder, mlp).model.first.weight.equal(mlp().first.weight)


@pytest.mark.faults
def test_what_safetensors_leaves_when_killed_is_no_obstacle(folder):
    """It writes under a name of its own making, and renames."""
    folder.mkdir()
    (folder / ".tmpA1b2C3").write_bytes(b"half of the weights")
    saved(folder)
    (folder / ".tmpA1b2C3").write_bytes(b"half of the weights")
    saved(folder, mlp(seed=1))
    assert {path.name for path in folder.iterdir()} == {CONFIG, WEIGHTS}


def refuse(*_, **__):
    raise PermissionError


def test_weights_that_have_no_name_yet_are_not_overwritten(folder, monkeypatch):
    """The first save is killed right after it counts, the next one fails."""
    saved(folder)
    with monkeypatch.context() as patch:
        patch.setattr(_folder, "_finish", lambda _: None)
        second = saved(folder, mlp(seed=1)).model
    assert (folder / NEXT_WEIGHTS).exists()
    assert_same_values(LOAD(folder, build).model, second)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", refuse)
        with pytest.raises(PermissionError):
            saved(folder, mlp(seed=2))
    assert_same_values(LOAD(folder, build).model, second)


def test_a_failed_write_leaves_what_was_there(folder, monkeypatch):
    extractor = saved(folder)
    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(PermissionError):
        saved(folder, mlp(seed=1))
    with pytest.raises(PermissionError):
        saved(folder.with_name("other"))
    monkeypatch.undo()
    assert LOAD(folder, build).model.first.weight.equal(extractor.model.first.weight)
    assert [path.name for path in folder.parent.iterdir()] == ["saved"]


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
