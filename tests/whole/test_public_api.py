"""The public names: there, documented, and no others."""

import importlib
import inspect
import pkgutil
from types import NoneType

import pytest
from numpydoc.validate import validate

import sklearn_torch_bridge
from sklearn_torch_bridge import TorchFeatureExtractor

PUBLIC = [
    "sklearn_torch_bridge",
    "sklearn_torch_bridge.adapters",
    "sklearn_torch_bridge.cache",
    "sklearn_torch_bridge.inspection",
    "sklearn_torch_bridge.models",
    "sklearn_torch_bridge.pooling",
    "sklearn_torch_bridge.stats",
]
MODULES = [
    module.name
    for module in pkgutil.walk_packages(
        sklearn_torch_bridge.__path__, "sklearn_torch_bridge."
    )
]
NOT_ASKED = {"EX01", "SA01", "ES01", "GL08", "RT02"}  # as in pyproject.toml


def public_objects():
    for place in PUBLIC:
        module = importlib.import_module(place)
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                yield f"{place}.{name}"
            if inspect.isclass(value) and not issubclass(value, Exception):
                methods = (
                    method
                    for method, what in vars(value).items()
                    if method[0] != "_" and not isinstance(what, (str, int, NoneType))
                )  # defaults of fields are documented with the class
                yield from (f"{place}.{name}.{method}" for method in methods)


@pytest.mark.parametrize("name", sorted(public_objects()))
def test_public_names_are_documented_in_full(name):
    errors = [error for error in validate(name)["errors"] if error[0] not in NOT_ASKED]
    # Inherited from scikit-learn, and documented there.
    if name.endswith("_request"):
        return
    assert errors == []


@pytest.mark.parametrize("name", MODULES)
def test_all_names_of_a_module_are_there_and_its_purpose_is_told(name):
    module = importlib.import_module(name)
    assert module.__doc__
    assert sorted(module.__all__) == sorted(set(module.__all__))
    assert [public for public in module.__all__ if not hasattr(module, public)] == []


def test_the_version_is_the_distributions():
    assert sklearn_torch_bridge.__version__ == importlib.metadata.version(
        "sklearn-torch-bridge"
    )


def test_the_signature_is_the_promised_one():
    parameters = inspect.signature(TorchFeatureExtractor).parameters
    assert {name: p.default for name, p in parameters.items()} == {
        "model": inspect.Parameter.empty,
        "preprocess": None,
        "layer": None,
        "output": None,
        "pooling": "auto",
        "batch_size": 32,
        "device": "auto",
        "precision": None,
        "compile": False,
        "dtype": "float32",
        "cache": None,
        "cache_key": None,
        "on_error": "raise",
        "num_workers": 0,
        "verbose": 0,
    }
    kinds = {name: p.kind.name for name, p in parameters.items() if name != "model"}
    assert set(kinds.values()) == {"KEYWORD_ONLY"}
