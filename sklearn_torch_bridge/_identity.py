"""Which model is meant: a fingerprint that needs no loading where files tell.

For a string it is that of the files, for a module that of its weights and code. What a
callable makes is known once it was called; clones in other processes are told, so that
with a warm cache they need not call it, and check it if they do.
"""

import threading
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from sklearn_torch_bridge._digest import digest, fingerprint_files, fingerprint_module
from sklearn_torch_bridge.models import files_of, load_model

__all__ = ["fingerprint_model", "remember_fingerprint", "told_fingerprint"]


@dataclass
class _Told:
    """What other processes have told about callables."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    by_callable: WeakKeyDictionary[Any, bytes] = field(
        default_factory=WeakKeyDictionary
    )


_TOLD = _Told()


def fingerprint_model(model: Any, *, cache_key: str | None) -> bytes:
    """Give 32 bytes for what `model` computes; a callable is called if need be."""
    if isinstance(model, str):
        library, files = files_of(model)
        return digest((library, version(library), fingerprint_files(files)))
    if not isinstance(model, nn.Module) and callable(model):
        known = told_fingerprint(model)
        if known is None:
            module = load_model(model).module
            known = fingerprint_module(module, cache_key=cache_key)
            remember_fingerprint(model, known)
        return known
    return fingerprint_module(load_model(model).module, cache_key=cache_key)


def told_fingerprint(model: Any) -> bytes | None:
    """Give what is known of a callable here, for a process that it is sent to."""
    if isinstance(model, (nn.Module, str)) or not callable(model):
        return None
    with _TOLD.lock:
        return _TOLD.by_callable.get(model)


def remember_fingerprint(model: Any, fingerprint: bytes) -> None:
    """Believe what another process has found of a callable, until it is called."""
    with _TOLD.lock:
        _TOLD.by_callable[model] = fingerprint
