import pytest

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge._packages import import_optional, set_home
from tests.processes import run_code


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    words = r"'hf:x' needs .*'transformers'.* pip install 'sklearn-torch-bridge\[hf\]'"
    with pytest.raises(ImportError, match=words):
        TorchFeatureExtractor("hf:x").fit(["a"])


def test_a_package_that_is_there_but_broken_raises_its_own_error(tmp_path):
    (tmp_path / "tqdm.py").write_text("raise RuntimeError('broken install')")
    code = (
        "from sklearn_torch_bridge._packages import import_optional\n"
        "import sys; sys.modules.pop('tqdm', None)\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "import_optional('tqdm', purpose='x')"
    )
    assert "RuntimeError: broken install" in run_code(code).stderr


def test_what_is_installed_is_imported():
    assert import_optional("tqdm.auto", purpose="x").tqdm is not None


def test_a_face_is_the_home_of_what_it_has_and_of_nothing_that_has_one():
    face = {
        "__name__": "package.face",
        "__all__": ["Private", "Public", "value", "gone"],
    }
    for name, module in [("Private", "package._a._b"), ("Public", "package.other")]:
        face[name] = type(name, (), {"__module__": module})
    face |= {"value": {"a": 1}, "Hidden": type("Hidden", (), {"__module__": "p._a"})}
    set_home(face)
    homes = [face[name].__module__ for name in ("Private", "Public", "Hidden")]
    assert homes == ["package.face", "package.other", "p._a"]
    set_home(face, "Hidden")
    assert face["Hidden"].__module__ == "package.face"
