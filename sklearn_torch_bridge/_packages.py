"""Import an optional package, or say which extra brings it."""

import importlib
import importlib.util
import re
from importlib.metadata import version
from types import ModuleType

__all__ = ["check_installed", "import_optional", "is_installed"]

_EXTRAS = {
    "PIL": "vision",
    "dask": "dask",
    "distributed": "dask",
    "matplotlib": "plot",
    "pyarrow": "ray",
    "ray": "ray",
    "safetensors": "safetensors",
    "sentence_transformers": "st",
    "timm": "timm",
    "torchvision": "vision",
    "tqdm": "progress",
    "transformers": "hf",
}


def is_installed(package: str) -> bool:
    """Tell whether `package` could be imported, without importing it."""
    return importlib.util.find_spec(package) is not None


def check_installed(package: str, *, purpose: str) -> None:
    """Name the extra that brings a package which is missing; import nothing."""
    if not is_installed(package):
        extra = _EXTRAS[package]
        msg = (
            f"{purpose} needs the package {package!r}, which is not installed. "
            f"Install it with: pip install 'sklearn-torch-bridge[{extra}]'"
        )
        raise ImportError(msg)


def import_optional(
    module: str, *, purpose: str, at_least: str | None = None
) -> ModuleType:
    """Import `module`; where its package is missing or too old, name the extra.

    A package that is there but broken raises its own error.
    """
    package = module.partition(".")[0]
    check_installed(package, purpose=purpose)
    if at_least is not None and _numbers(version(package)) < _numbers(at_least):
        extra = _EXTRAS[package]
        msg = (
            f"{purpose} needs {package} {at_least} or later, got {version(package)}. "
            f"Upgrade it with: pip install -U 'sklearn-torch-bridge[{extra}]'"
        )
        raise ImportError(msg)
    return importlib.import_module(module)


def _numbers(written: str) -> list[int]:
    """Give the first two numbers of a version: of "2.51.0rc1", 2 and 51."""
    return [int(number) for number in re.findall(r"\d+", written)[:2]]
