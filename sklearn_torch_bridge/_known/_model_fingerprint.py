"""The fingerprint of a model, without loading it where its files identify it.

For a string it is that of the files, for a module that of its weights and code. What a
callable makes, or a string that stands for no files, is known once it was loaded; the
fingerprint travels with pickles, so that with a warm cache no other process loads it.
"""

from importlib.metadata import PackageNotFoundError, version
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from sklearn_torch_bridge._digest import digest, fingerprint_files
from sklearn_torch_bridge.models import files_of, is_loaded, load_model

__all__ = [
    "fingerprint_model",
    "fingerprint_module",
    "known_fingerprint",
    "remember_fingerprint",
]

_OF_CALLABLES: WeakKeyDictionary[Any, bytes] = WeakKeyDictionary()
_RECEIVED: dict[str, bytes] = {}  # with a pickle of a string
_COMPUTED: dict[str, bytes] = {}  # of a string that was loaded here


def fingerprint_model(model: Any, *, cache_key: str | None) -> bytes:
    """Return 32 bytes for what `model` computes; a callable is called if necessary."""
    if isinstance(model, str):
        return _of_string(model, cache_key)
    known = known_fingerprint(model)
    if known is None:
        known = fingerprint_module(load_model(model).module, cache_key=cache_key)
        if callable(model) and not isinstance(model, nn.Module):
            remember_fingerprint(model, known)
    return known


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


def _of_string(model: str, cache_key: str | None) -> bytes:
    """Identify a string by its files, else by what it was loaded to."""
    known = files_of(model)
    if known is not None:
        library, packages, files = known
        versions = [_version(package) for package in packages]
        return digest((library, versions, fingerprint_files(files)))
    received = _RECEIVED.get(model)
    if received is not None and not is_loaded(model):
        return received
    loaded = load_model(model)
    module = fingerprint_module(loaded.module, cache_key=cache_key)
    names = ("preprocess", "media", "output", "pooling", "layer_pooling")
    brought = [getattr(loaded, name) for name in names]
    settings = digest(brought, name="`model`", lenient=cache_key is not None)
    _COMPUTED[model] = digest((module, settings))
    return _COMPUTED[model]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def known_fingerprint(model: Any) -> bytes | None:
    """Return the fingerprint of a model if it is known, for a pickle of the model."""
    if isinstance(model, str):
        return _COMPUTED.get(model) or _RECEIVED.get(model)
    if isinstance(model, nn.Module) or not callable(model):
        return None
    return _OF_CALLABLES.get(model)


def remember_fingerprint(model: Any, fingerprint: bytes) -> None:
    """Use the fingerprint that another process computed until the model is loaded."""
    if isinstance(model, str):
        _RECEIVED[model] = fingerprint
    else:
        _OF_CALLABLES[model] = fingerprint
