"""Import an optional package, or say which extra brings it."""

import importlib
import importlib.util
from types import ModuleType

__all__ = ["check_installed", "import_optional", "is_installed"]

_EXTRAS = {
    "PIL": "vision",
    "matplotlib": "plot",
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


def import_optional(module: str, *, purpose: str) -> ModuleType:
    """Import `module`; where its package is missing, name the extra.

    A package that is there but broken raises its own error.
    """
    check_installed(module.partition(".")[0], purpose=purpose)
    return importlib.import_module(module)
