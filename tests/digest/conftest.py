"""Fixtures about modules: written by a test, or looked for anew."""

import importlib
import sys

import pytest

from sklearn_torch_bridge._digest import _library_or_user_code


@pytest.fixture
def helpers(tmp_path, monkeypatch):
    """Give a function that writes a module of the user's and imports it anew."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(text, name="users_helpers"):
        (tmp_path / f"{name}.py").write_text(text)
        sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield write
    for path in tmp_path.glob("*.py"):
        del sys.modules[path.stem]


@pytest.fixture
def libraries_anew():
    """Forget where modules come from, before and after."""
    _library_or_user_code._library.cache_clear()
    yield
    _library_or_user_code._library.cache_clear()
