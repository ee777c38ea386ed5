"""Distinguish libraries, identified by name and version, from the user's code."""

import importlib.metadata
import importlib.util
import os
import sys
from functools import lru_cache, partial
from pathlib import PurePath
from types import FunctionType, MethodType
from typing import Any, NamedTuple

import numpy as np

from sklearn_torch_bridge._packages import VERSION

__all__ = ["Library", "is_installed", "is_user_code", "library_of", "place_of"]

_OURSELVES = __name__.partition(".")[0]
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_STANDARD = PurePath(os.__file__).parent
_IN_THE_INTERPRETER = frozenset({"built-in", "frozen"})

# Another version of these changes last bits: what their functions mean is documented
# and stable, and all that was ever computed would be lost with each update of torch.
_ANY_VERSION = frozenset({"torch", "numpy"})

_WRAPPERS = {
    classmethod: "__func__",
    staticmethod: "__func__",
    property: "fget",
    partial: "func",
    MethodType: "__func__",
}
_PLAIN = frozenset(
    {FunctionType, str, dict, tuple, bool, int, type(None)}
)  # no wrappers


class Library(NamedTuple):
    """A library's name, and its version where that may change results."""

    name: str
    version: str


def library_of(module: object) -> Library | None:
    """Return the library that a module belongs to, by its name; None: the user's code.

    >>> library_of("math"), library_of("torch.nn.functional")
    (Library(name='math', version=''), Library(name='torch', version=''))
    >>> library_of("__main__")
    """
    return _library(module.partition(".")[0]) if isinstance(module, str) else None


def is_installed(module: object) -> bool:
    """Return whether a module is of a library, also of one without a version."""
    if library_of(module) is not None:
        return True
    return isinstance(module, str) and _is_installed(module.partition(".")[0])


def place_of(value: Any) -> tuple[Library, str] | None:
    """Return the library and the name under which `value` is found there, if it is.

    >>> place_of(map)
    (Library(name='builtins', version=''), 'builtins.map')
    """
    modules: list[Any] = [getattr(value, "__module__", None)]
    if isinstance(value, np.ufunc):  # all of them claim to be NumPy's
        modules = ["numpy", "scipy.special"]
    for module in modules:
        library = library_of(module)
        if library is None:
            continue
        for attribute in ("__qualname__", "__name__"):  # of `torch.relu` they differ
            path = getattr(value, attribute, None)
            if isinstance(path, str) and _look_up(module, path) is value:
                return library, f"{module}.{path}"
    return None


def is_user_code(value: Any) -> bool:
    """Return whether the user has written a function, or the class of an object.

    >>> is_user_code(print), is_user_code(partial(print))
    (False, False)
    """
    inner = value
    for kind, attribute in _WRAPPERS.items() if type(value) not in _PLAIN else ():
        if isinstance(inner, kind):
            inner = getattr(inner, attribute)
    if isinstance(inner, FunctionType):
        home: Any = inner.__globals__.get("__name__")
    else:
        home = type(inner).__module__
    if library_of(home) is not None:
        return False
    # What compilers make (Cython) lives in modules that come from no file.
    return home == "__main__" or hasattr(sys.modules.get(home), "__file__")


def _look_up(module: str, path: str) -> Any:
    value: Any = sys.modules.get(module)
    for name in path.split("."):
        value = getattr(value, name, None)
    return value


@lru_cache(maxsize=1024)
def _library(top: str) -> Library | None:
    if top == _OURSELVES:  # also where it runs from a clone of its repository
        return Library(top, VERSION)
    places = _places(top)
    if _IN_THE_INTERPRETER.intersection(places):
        return Library(top, "")
    if not _are_installed(places):
        # By its place, not its name: a script's own `types.py` comes first.
        standard = any(PurePath(place).is_relative_to(_STANDARD) for place in places)
        return Library(top, "") if standard else None
    version = "" if top in _ANY_VERSION else _version(top)
    return None if version is None else Library(top, version)


@lru_cache(maxsize=1024)
def _is_installed(top: str) -> bool:
    return _are_installed(_places(top))


def _are_installed(places: list[str]) -> bool:
    parts = {part for place in places for part in PurePath(place).parts}
    return not _INSTALLED.isdisjoint(parts)


def _places(top: str) -> list[str]:
    """List the files that a top-level module was read from, or would be."""
    module = sys.modules.get(top)
    try:
        spec = module.__spec__ if module else importlib.util.find_spec(top)
    except (AttributeError, ImportError, ValueError):
        return []
    if spec is None or spec.name != top:  # `__main__` may carry the name of a script
        return []
    places = [spec.origin, *(spec.submodule_search_locations or ())]
    return [place for place in places if place]


def _version(top: str) -> str | None:
    """Return the version of a package by its import name."""
    try:
        return importlib.metadata.version(top)
    except importlib.metadata.PackageNotFoundError:  # Pillow is imported as PIL
        names = importlib.metadata.packages_distributions().get(top)
        return importlib.metadata.version(names[0]) if names else None
