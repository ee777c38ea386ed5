import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import transformers

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge.models import _timm
from sklearn_torch_bridge.models._hub_files import (
    find_folder,
    loading_from_hub,
    tree_of_files,
)
from sklearn_torch_bridge.models._load_model import load_model
from tests import families


def test_files_of_inner_folders_count_but_those_of_other_libraries(tmp_path):
    read = ["1_Pooling/config.json", "modules.json"]
    for name in (*read, "README.md", "onnx/model.bin", ".git/config", "2/model.onnx"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [str(path.relative_to(tmp_path)) for path in tree_of_files(tmp_path)]
    assert sorted(found) == read


def test_a_folder_needs_no_hub(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert find_folder(str(tmp_path), "config.json", prefix="hf") == tmp_path


@pytest.mark.parametrize("shown", [True, False])
def test_progress_bars_are_as_before_also_after_a_failure(shown, monkeypatch):
    logging = transformers.utils.logging
    monkeypatch.setattr(logging, "_tqdm_active", shown)

    def load():
        with loading_from_hub("hf:x", library="transformers", by_hand="AutoModel"):
            assert not logging.is_progress_bar_enabled()
            Path("gone").read_text()

    with pytest.raises(ValueError, match=r"'hf:x' must .* transformers says: .*gone"):
        load()
    assert logging.is_progress_bar_enabled() == shown


def folder_with_code(folder):
    """Save a model whose class is in a file beside it."""
    config, _ = families.TEXTS["bert"]
    families.save(folder, config, families.make_tokenizer())
    path = folder / "config.json"
    named = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}
    own = json.loads(path.read_text()) | {"auto_map": named, "model_type": "own"}
    path.write_text(json.dumps(own))
    (folder / "own.py").write_text("raise SystemExit")


@pytest.mark.parametrize(
    ("prefix", "by_hand"),
    [("hf", r"AutoModel\.from_pretrained"), ("st", "SentenceTransformer")],
)
def test_of_a_model_with_code_of_its_own_the_way_out_is_said(prefix, by_hand, tmp_path):
    folder_with_code(tmp_path / "own")
    words = rf"by {by_hand}\('.*own', trust_remote_code=True\), and give the object"
    with pytest.raises(ValueError, match=words):
        TorchFeatureExtractor(f"{prefix}:{tmp_path}/own").transform(["a"])


def broken_library(*_, **__):
    """Fail as a package does whose shared library is broken."""
    importlib.import_module("broken_package")


@pytest.fixture
def broken_package(tmp_path, monkeypatch):
    place = tmp_path / "packages"
    place.mkdir()
    (place / "broken_package.py").write_text("raise OSError('undefined symbol: x')")
    monkeypatch.syspath_prepend(str(place))


FAILURES = {
    "undefined symbol": broken_library,
    "not wrapped": lambda *_, **__: (_ for _ in ()).throw(ImportError("no such name")),
}


@pytest.mark.usefixtures("broken_package")
@pytest.mark.parametrize("prefix", ["hf", "st", "timm"])
@pytest.mark.parametrize("failure", FAILURES)
def test_a_broken_package_is_no_missing_model(prefix, failure, tmp_path, monkeypatch):
    """An OSError may be either."""
    config, _ = families.TEXTS["bert"]
    families.save(tmp_path / "model", config, families.make_tokenizer())
    if prefix == "timm":
        library = SimpleNamespace(create_model=FAILURES[failure])
        monkeypatch.setattr(_timm, "import_optional", lambda *_, **__: library)
    else:
        cls = transformers.AutoModel
        monkeypatch.setattr(cls, "from_pretrained", FAILURES[failure])
        monkeypatch.setattr(
            transformers.AutoTokenizer, "from_pretrained", broken_library
        )
    with pytest.raises(
        ImportError, match="a package that it needs fails to import"
    ) as info:
        load_model(f"{prefix}:{tmp_path}/model")
    assert "must be a folder" not in str(info.value)


def test_a_folder_that_is_there_is_not_said_to_be_missing(tmp_path):
    config, _ = families.TEXTS["bert"]
    families.save(tmp_path, config, families.make_tokenizer())
    (tmp_path / "model.safetensors").write_text("no weights")
    with pytest.raises(ValueError, match=r"is there, but could not be loaded: Safet"):
        TorchFeatureExtractor(f"hf:{tmp_path}").transform(["a"])
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json', a file of a model, must be"):
        TorchFeatureExtractor(f"hf:{tmp_path}").transform(["a"])
