"""The public names: there, documented, and no others; where they say they are."""

import doctest
import importlib
import inspect
import pickle
import pickletools
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path
from types import NoneType

import numpy as np
import pytest
from numpydoc.validate import validate
from torch import nn

import sklearn_torch_bridge
from sklearn_torch_bridge import (
    EmbeddingCache,
    TensorToArray,
    TorchFeatureExtractor,
    precompute,
    share,
    stats,
)
from sklearn_torch_bridge._digest._library_or_user_code import place_of
from tests.tiny_models import mlp

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
                    for kind in value.__mro__
                    if kind.__module__.startswith(PUBLIC[0])
                    for method, what in vars(kind).items()
                    if method[0] != "_" and not isinstance(what, (str, int, NoneType))
                )  # defaults of fields are documented with the class
                yield from (f"{place}.{name}.{method}" for method in methods)


@pytest.mark.parametrize("name", sorted({*public_objects()}))
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


# --- Import ------------------------------------------------------------------------


def printed_by(code, *paths):
    """Run code in a new interpreter, with `paths` before all others; list its words."""
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path[:0] = {[*map(str, paths)]}; {code}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


def test_the_import_brings_no_subpackage_that_was_not_asked_for():
    loaded = printed_by(
        "import torch, sklearn.pipeline; before = {*sys.modules}; "
        "import sklearn_torch_bridge; print(*sys.modules.keys() - before)"
    )
    assert "sklearn_torch_bridge.pooling" in loaded
    unasked = ("stats", "inspection", "adapters")
    assert not {f"sklearn_torch_bridge.{name}" for name in unasked} & set(loaded)
    slow = {"sklearn.linear_model", "sklearn.model_selection", "scipy.io"}
    assert slow.isdisjoint(loaded)


def test_every_public_name_is_listed_and_resolves():
    code = """
import sklearn_torch_bridge as package
print(*dir(package))
for name in package.__all__:
    getattr(package, name)
from sklearn_torch_bridge import *
print(layer_table.__name__, stats.__name__, package.adapters.__name__)
"""
    *listed, table, statistics, adapters = printed_by(f"exec({code!r})")
    assert {*sklearn_torch_bridge.__all__, "__version__"} <= set(listed)
    assert table == "layer_table"
    assert [statistics, adapters] == [
        "sklearn_torch_bridge.stats",
        "sklearn_torch_bridge.adapters",
    ]


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"'sklearn_torch_bridge' has no .*'sats'"):
        sklearn_torch_bridge.sats  # noqa: B018 - what it is about
    with pytest.raises(ImportError, match="cannot import name 'sats'"):
        from sklearn_torch_bridge import sats  # noqa: F401 - what it is about


# --- Version -----------------------------------------------------------------------


def test_the_version_is_the_distributions():
    assert sklearn_torch_bridge.__version__ == importlib.metadata.version(
        "sklearn-torch-bridge"
    )


WITHOUT_METADATA = """
import importlib.metadata as metadata
import tempfile
from pathlib import Path

find = metadata.Distribution.from_name.__func__

def hide(cls, name):
    if name.replace("_", "-") == "sklearn-torch-bridge":
        raise metadata.PackageNotFoundError(name)
    return find(cls, name)

metadata.Distribution.from_name = classmethod(hide)

import numpy as np
import torch
from sklearn_torch_bridge import TorchFeatureExtractor, __file__, __version__
from sklearn_torch_bridge import adapters, inspection, stats
from sklearn_torch_bridge.pooling import mean

folder = Path(tempfile.mkdtemp())
extractor = TorchFeatureExtractor(
    torch.nn.Linear(2, 2), pooling=mean, cache=folder / "cache.db"
)
Z = extractor.fit_transform(np.eye(2))
assert (extractor.transform(np.eye(2)) == Z).all()
extractor.save(folder / "saved")
loaded = TorchFeatureExtractor.load(
    folder / "saved", lambda: torch.nn.Linear(2, 2), pooling=mean
)
assert (loaded.transform(np.eye(2)) == Z).all()
from sklearn_torch_bridge.adapters._parcel import Reference, pack
import pickle
parcel = Reference(extractor, pack(extractor))
assert (pickle.loads(pickle.dumps(parcel)).open().transform(np.eye(2)) == Z).all()
print(__version__, __file__)
"""


def test_a_copy_of_the_folder_works_without_installed_metadata(tmp_path):
    source = Path(sklearn_torch_bridge.__file__).parent
    shutil.copytree(
        source,
        tmp_path / source.name,
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    version, file = printed_by(f"exec({WITHOUT_METADATA!r})", tmp_path)
    assert version == sklearn_torch_bridge.__version__
    assert Path(file).is_relative_to(tmp_path)


# --- Homes -------------------------------------------------------------------------


@pytest.mark.parametrize("place", PUBLIC)
def test_public_objects_name_a_public_home_that_has_them(place):
    module = importlib.import_module(place)
    returned = ["Precomputed", "Shared"] if place == PUBLIC[0] else []
    for name in (*module.__all__, *returned):
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__module__ in PUBLIC
            home = importlib.import_module(value.__module__)
            assert getattr(home, name) is value
            assert name in (*home.__all__, *returned)
            assert place_of(value)[1] == f"{value.__module__}.{name}"


def modules_in(data):
    """Yield the strings in a pickle and in those inside it; some name modules."""
    for _, argument, _ in pickletools.genops(data):
        text = argument.decode("latin-1") if isinstance(argument, bytes) else argument
        if isinstance(text, str) and text.startswith("\x80"):  # a pickle
            yield from modules_in(text.encode("latin-1"))
        elif isinstance(text, str):
            yield text.partition(" ")[0]  # "module name" in protocol 2


def pickled(tmp_path):
    X, module = np.eye(4, dtype=np.float32), mlp()
    cached = TorchFeatureExtractor(module, cache=tmp_path / "cache.db")
    errors = [
        value(name)
        for name, value in vars(sklearn_torch_bridge).items()
        if inspect.isclass(value) and issubclass(value, Exception)
    ]
    return {
        "extractor": TorchFeatureExtractor(module, layer="first").fit(X),
        "to array": TensorToArray().fit(X),
        "handle": share(module),
        "handle in an extractor": TorchFeatureExtractor(share(module)),
        "large": TorchFeatureExtractor(nn.Linear(600, 600)),
        "precomputed": precompute(cached, X),
        "cache": EmbeddingCache(tmp_path / "cache.db"),
        "layers": sklearn_torch_bridge.layer_table(module, X),
        "statistics": stats.ks_drift(X, X),
        "functions": [stats.cka, sklearn_torch_bridge.to_numpy, share],
        **{type(error).__name__: error for error in errors},
    }


@pytest.mark.parametrize("protocol", [2, 5])
def test_pickles_name_no_private_module_of_ours(tmp_path, protocol):
    objects = pickled(tmp_path)
    assert len(objects) == 19
    for value in objects.values():
        data = pickle.dumps(value, protocol)
        ours = {name for name in modules_in(data) if name.startswith(PUBLIC[0])}
        # The private home of a function that pickles of modules need: it stays.
        assert ours - {"sklearn_torch_bridge._pickling"} <= {*PUBLIC}
        assert ours
        found = pickle.loads(data)  # noqa: S301 - our own bytes
        assert type(found) is type(value)


def examples_of_methods():
    """Yield doctests that pytest misses: it looks for methods in the file of a home."""
    for place in PUBLIC:
        module = importlib.import_module(place)
        for name in module.__all__:
            if inspect.isclass(getattr(module, name)):
                found = doctest.DocTestFinder().find(
                    getattr(module, name), f"{place}.{name}", module=False, globs={}
                )
                yield from (
                    one
                    for one in found
                    if one.examples and one.name != f"{place}.{name}"
                )


EXAMPLES = {example.name: example for example in examples_of_methods()}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_of_methods_run(name):
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    result = doctest.DocTestRunner(optionflags=flags).run(EXAMPLES[name])
    assert result.attempted
    assert not result.failed


def test_the_signature_is_the_promised_one():
    parameters = inspect.signature(TorchFeatureExtractor).parameters
    assert {name: p.default for name, p in parameters.items()} == {
        "model": inspect.Parameter.empty,
        "preprocess": None,
        "prompt": None,
        "max_length": None,
        "too_long": "warn",
        "layer": None,
        "output": None,
        "pooling": "auto",
        "truncate_dim": None,
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
