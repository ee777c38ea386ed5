"""The version of this package, the homes of its names, and optional packages."""

import importlib
import importlib.util
import re
from collections.abc import Mapping
from importlib.metadata import version
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import sklearn
import torch

__all__ = [
    "VERSION",
    "VERSIONS",
    "check_installed",
    "import_optional",
    "is_installed",
    "set_home",
]

VERSION = "0.1.0.dev0"  # pyproject.toml reads it here
VERSIONS = {  # of all that decides what a saved or sent extractor computes
    "sklearn-torch-bridge": VERSION,
    "torch": str(torch.__version__),
    "scikit-learn": str(sklearn.__version__),
    "numpy": np.__version__,
}

_EXTRAS = {
    "PIL": "vision",
    "dask": "dask",
    "distributed": "dask",
    "matplotlib": "plot",
    "pyarrow": "ray",
    "ray": "ray",
    "safetensors": "safetensors",
    "sentence_transformers": "st",
    "soundfile": "sound",
    "soxr": "sound",
    "timm": "timm",
    "torchvision": "vision",
    "tqdm": "progress",
    "transformers": "hf",
}


def is_installed(package: str) -> bool:
    """Check whether `package` could be imported, without importing it."""
    return importlib.util.find_spec(package) is not None


def check_installed(package: str, *, purpose: str) -> None:
    """Raise an error that names the extra if `package` is missing; import nothing."""
    if not is_installed(package):
        msg = (
            f"{purpose} needs the package {package!r}, which is not installed. Install "
            f"it with: pip install 'sklearn-torch-bridge[{_EXTRAS[package]}]'"
        )
        raise ImportError(msg)


def import_optional(
    module: str, *, purpose: str, at_least: str | None = None
) -> ModuleType:
    """Import `module`; name the extra only where its package is missing or too old."""
    package = module.partition(".")[0]
    check_installed(package, purpose=purpose)
    if at_least and _numbers(found := version(package)) < _numbers(at_least):
        msg = (
            f"{purpose} needs {package} {at_least} or later, got {found}. Upgrade it "
            f"with: pip install -U 'sklearn-torch-bridge[{_EXTRAS[package]}]'"
        )
        raise ImportError(msg)
    return importlib.import_module(module)


def _numbers(written: str) -> list[int]:
    """Return the first two numbers of a version: of "2.51.0rc1", 2 and 51."""
    return [int(number) for number in re.findall(r"\d+", written)[:2]]


def set_home(face: Mapping[str, Any], *more: str) -> None:
    """Name `face` as the module of what it has in ``__all__``, and of `more` names.

    Pickles, messages and fingerprints then name no private module, which may move.
    What has a public home already keeps it. `face` is the ``globals()`` of a module.
    """
    for name in (*face["__all__"], *more):
        value = face.get(name)
        if isinstance(value, (FunctionType, type)) and "._" in value.__module__:
            value.__module__ = face["__name__"]
