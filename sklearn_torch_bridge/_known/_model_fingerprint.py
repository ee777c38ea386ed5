"""The fingerprint of a model, without loading it where its files identify it.

For a string it is that of the files, for a module that of its weights and code. What a
callable makes, or a string that stands for no files, is known once it was loaded, and
looked at again each time, for it may be edited. The fingerprint travels with pickles,
so that with a warm cache no other process loads it.
"""

from collections.abc import MutableMapping
from contextlib import suppress
from dataclasses import astuple
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from torch import nn

from sklearn_torch_bridge._digest import digest, fingerprint_files
from sklearn_torch_bridge._errors import FingerprintError
from sklearn_torch_bridge._pickling import is_module_call
from sklearn_torch_bridge.models import (
    ByCallable,
    Told,
    files_of,
    is_loaded,
    load_model,
    told_of,
)

__all__ = [
    "fingerprint_model",
    "fingerprint_module",
    "is_received",
    "known_fingerprint",
    "known_told",
    "remember_fingerprint",
    "told_of_model",
]


class _ByModel:
    """Something of strings, and of callables as long as these live."""

    def __init__(self) -> None:
        self._of_strings: dict[str, Any] = {}
        self._of_callables: ByCallable[Any] = ByCallable()

    def of(self, model: Any) -> MutableMapping[Any, Any]:
        """Return the mapping that `model` is in."""
        return self._of_strings if isinstance(model, str) else self._of_callables


_RECEIVED = _ByModel()  # fingerprints, with pickles of models not loaded here since
_RECEIVED_TOLD = _ByModel()  # what is told of such models
_COMPUTED = _ByModel()  # whether it was asked for here


def fingerprint_model(model: Any, *, cache_key: str | None) -> bytes:
    """Return 32 bytes for what `model` computes; a callable is called if necessary."""
    if isinstance(model, str):
        return _of_files(model) or _of_loaded(model, cache_key)
    if _is_callable(model):
        return _of_loaded(model, cache_key)
    return fingerprint_module(load_model(model).module, cache_key=cache_key)


def fingerprint_module(module: nn.Module, *, cache_key: str | None = None) -> bytes:
    """Return 32 bytes for what a module computes in eval mode.

    That is its weights and buffers by their values, the classes of its parts with
    their code where that is the user's, all attributes that a forward can read (also
    counters), and forward hooks. A library's classes count by their names and its
    version (of torch and NumPy any). Not its training flag, gradients or device.

    Nothing is remembered but digests of tensors, each guarded by a checksum of all its
    values, so that no change is missed: 13 ms for MiniLM (91 MB, 120 modules), the
    first time 130 ms.

    Parts that cannot be identified raise `FingerprintError`, or with a `cache_key`
    count by their type and place.
    """
    return digest(module, name="`model`", lenient=cache_key is not None)


def _of_files(model: str) -> bytes | None:
    """Identify a string by its files, if it stands for some."""
    known = files_of(model)
    if known is None:
        return None
    library, packages, files = known
    versions = [_version(package) for package in packages]
    return digest((library, versions, fingerprint_files(files)))


def _of_loaded(model: Any, cache_key: str | None) -> bytes:
    """Identify a string or callable by what it was loaded to, here or where it was."""
    if is_received(model):
        received: bytes = _RECEIVED.of(model)[model]
        return received
    loaded = load_model(model)
    module = fingerprint_module(loaded.module, cache_key=cache_key)
    _COMPUTED.of(model)[model] = True
    _RECEIVED.of(model).pop(model, None)
    if not isinstance(model, str):
        return module
    names = ["preprocess", "media", "output", "pooling", "layer_pooling"]
    names += ["prompts", "default_prompt"]
    brought = [getattr(loaded, name) for name in names]
    settings = digest(brought, name="`model`", lenient=cache_key is not None)
    return digest((module, settings))


@cache  # it takes a millisecond
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def known_fingerprint(model: Any, *, cache_key: str | None = None) -> bytes | None:
    """Return the fingerprint of a model if it is known, for a pickle of the model."""
    if not isinstance(model, str) and not _is_callable(model):
        return None
    known: bytes | None = _RECEIVED.of(model).get(model)
    if known is None and model not in _COMPUTED.of(model):
        return None
    if is_loaded(model):  # it may have been edited since
        with suppress(FingerprintError):
            return _of_loaded(model, cache_key)
        return None
    return known


def is_received(model: Any) -> bool:
    """Return whether the fingerprint is that of a pickle, of a model not loaded here.

    The process that sent it may have had another: what a callable finds may differ.
    """
    may_be = isinstance(model, str) or _is_callable(model)
    return may_be and model in _RECEIVED.of(model) and not is_loaded(model)


def told_of_model(model: Any) -> Told | None:
    """Return what is told of a model; None if it would be loaded for that alone."""
    if is_received(model) and model in _RECEIVED_TOLD.of(model):
        received: Told = _RECEIVED_TOLD.of(model)[model]
        return received
    told = told_of(model)
    if told is None and isinstance(model, str) and files_of(model) is not None:
        return None
    return told or load_model(model).told


def known_told(model: Any) -> tuple[Any, ...] | None:
    """Return what is told of a model if that is known, for a pickle of the model."""
    if not isinstance(model, str) and not _is_callable(model):
        return None
    if is_loaded(model):
        return astuple(load_model(model).told)
    told = _RECEIVED_TOLD.of(model).get(model)
    return None if told is None else astuple(told)


def _is_callable(model: Any) -> bool:
    """Check for a callable that makes a module."""
    is_module = isinstance(model, nn.Module) or is_module_call(model)
    return callable(model) and not is_module


def remember_fingerprint(
    model: Any, fingerprint: bytes, told: tuple[Any, ...] | None = None
) -> None:
    """Use the fingerprint that another process computed until the model is loaded."""
    _RECEIVED.of(model)[model] = fingerprint
    _RECEIVED_TOLD.of(model).pop(model, None)
    if told is not None:
        _RECEIVED_TOLD.of(model)[model] = Told(*told)
