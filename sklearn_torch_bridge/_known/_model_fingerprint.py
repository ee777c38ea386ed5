"""Which model is meant: a fingerprint that needs no loading where files tell.

For a string it is that of the files, for a module that of its weights and code. What a
callable makes, or a string that stands for no files, is known once it was loaded;
clones in other processes are told, so that with a warm cache they need not load it.
"""

import threading
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from sklearn_torch_bridge._digest import digest, fingerprint_files
from sklearn_torch_bridge._known._settings_fingerprint import fingerprint_module
from sklearn_torch_bridge.models import (
    files_of,
    is_loaded,
    load_model,
)

__all__ = ["fingerprint_model", "remember_fingerprint", "told_fingerprint"]


@dataclass
class _Told:
    """What was found here, or told by other processes."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    by_callable: WeakKeyDictionary[Any, bytes] = field(
        default_factory=WeakKeyDictionary
    )
    by_string: dict[str, bytes] = field(default_factory=dict)
    found: dict[str, bytes] = field(default_factory=dict)  # here, to be told


_TOLD = _Told()


def fingerprint_model(model: Any, *, cache_key: str | None) -> bytes:
    """Give 32 bytes for what `model` computes; a callable is called if need be."""
    if isinstance(model, str):
        return _of_string(model, cache_key)
    if not isinstance(model, nn.Module) and callable(model):
        known = told_fingerprint(model)
        if known is None:
            module = load_model(model).module
            known = fingerprint_module(module, cache_key=cache_key)
            remember_fingerprint(model, known)
        return known
    return fingerprint_module(load_model(model).module, cache_key=cache_key)


def _of_string(model: str, cache_key: str | None) -> bytes:
    """Tell a string apart by its files, else by what it was loaded to."""
    known = files_of(model)
    if known is not None:
        library, packages, files = known
        versions = [_version(package) for package in packages]
        return digest((library, versions, fingerprint_files(files)))
    told = _TOLD.by_string.get(model)
    if told is not None and not is_loaded(model):
        return told
    loaded = load_model(model)
    module = fingerprint_module(loaded.module, cache_key=cache_key)
    names = ("preprocess", "media", "output", "pooling", "layer_pooling")
    brought = [getattr(loaded, name) for name in names]
    lenient = cache_key is not None
    found = digest((module, digest(brought, name="`model`", lenient=lenient)))
    with _TOLD.lock:
        _TOLD.found[model] = found
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def told_fingerprint(model: Any) -> bytes | None:
    """Give what is known of a model here, for a process that it is sent to."""
    with _TOLD.lock:
        if isinstance(model, str):
            return _TOLD.found.get(model) or _TOLD.by_string.get(model)
        if isinstance(model, nn.Module) or not callable(model):
            return None
        return _TOLD.by_callable.get(model)


def remember_fingerprint(model: Any, fingerprint: bytes) -> None:
    """Believe what another process has found of a model, until it is loaded here."""
    with _TOLD.lock:
        known: MutableMapping[Any, bytes] = (
            _TOLD.by_string if isinstance(model, str) else _TOLD.by_callable
        )
        known[model] = fingerprint
