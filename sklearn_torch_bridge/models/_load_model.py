"""Load what the user gave as `model`, and answer questions about it before that.

A module is used as it is, also that of a handle made by `share` or of a net of skorch.
Callables are called and strings ``"PREFIX:NAME"`` loaded once per process, when used.
"""

import inspect
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from sklearn_torch_bridge._pickling import Shared
from sklearn_torch_bridge.models._kept_models import KeptModels
from sklearn_torch_bridge.models._loaded_model import LoadedModel
from sklearn_torch_bridge.models._registry import find_library
from sklearn_torch_bridge.models._sentence_transformers import (
    is_sentence_transformer,
    wrap_sentence_transformer,
)
from sklearn_torch_bridge.models._skorch import is_net, module_of_net

__all__ = ["files_of", "is_loaded", "load_model", "may_bring_preprocess", "opens_files"]

_LOCK = threading.RLock()
_BY_STRING = KeptModels()
_BY_CALLABLE: WeakKeyDictionary[Any, LoadedModel] = WeakKeyDictionary()


def load_model(model: Any) -> LoadedModel:
    """Return the module that `model` stands for, with what belongs to it."""
    module = model.module if isinstance(model, Shared) else model
    if isinstance(module, nn.Module):
        return _to_loaded_model(module)
    if is_net(model):
        return _to_loaded_model(module_of_net(model))
    with _LOCK:
        if isinstance(model, str):
            return _BY_STRING.get(model) or _load_string(model)
        if callable(model):
            if model not in _BY_CALLABLE:
                _BY_CALLABLE[model] = _to_loaded_model(_call(model))
            return _BY_CALLABLE[model]
    msg = (
        "`model` must be a torch.nn.Module, a string such as 'hf:NAME_OR_PATH', or a "
        f"callable that returns a module, got {model!r}."
    )
    raise TypeError(msg)


def is_loaded(model: str) -> bool:
    """Return whether a string was loaded in this process and is still kept."""
    with _LOCK:
        return _BY_STRING.get(model) is not None


def files_of(model: str) -> tuple[str, list[str], Sequence[Path]] | None:
    """Return the prefix and the packages of a string, and the files that it reads.

    None if its library does not list them. A model that is not on this machine yet is
    loaded first. One that was loaded from files that have changed since is forgotten,
    so that it is never used in place of what the files contain now.
    """
    library, name = find_library(model)
    try:
        files = library.list_files(name)
    except FileNotFoundError:
        load_model(model)
        files = library.list_files(name)
    if files is None:
        return None
    with _LOCK:
        known = _BY_STRING.file_state(model)
        if known is not None and known != _file_state(files):
            _BY_STRING.forget(model)
    packages = [library.package] if library.package else []
    if library.takes_paths(name):
        packages.append("torchvision")  # with it, transformers resizes otherwise
    return model.partition(":")[0], packages, files


def may_bring_preprocess(model: Any) -> bool:
    """Return whether rows of any type may do, without loading the model."""
    module = model.module if isinstance(model, Shared) else model
    return isinstance(module, str) or is_sentence_transformer(module)


def opens_files(model: Any) -> bool:
    """Return whether str among the rows name files; load the model if necessary."""
    if not isinstance(model, str):
        return False
    library, name = find_library(model)
    with _LOCK:
        loaded = _BY_STRING.get(model)
    if loaded is None:
        with suppress(FileNotFoundError):  # the model is not on this machine yet
            known = library.takes_paths(name)
            if known is not None:
                return known
    return (loaded or load_model(model)).opens_files


def _to_loaded_model(module: nn.Module) -> LoadedModel:
    """Return a module with what belongs to it, if it is of a known library."""
    if is_sentence_transformer(module):
        return wrap_sentence_transformer(module)
    return LoadedModel(module)


def _file_state(files: Sequence[Path] | None) -> object:
    """Return what changes when one of these files is written to or replaced."""
    return [
        (str(file), now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
        for file, now in ((file, file.stat()) for file in files or ())
    ]


def _load_string(model: str) -> LoadedModel:
    """Load the model of a string, and keep it."""
    library, name = find_library(model)
    try:
        before = _file_state(library.list_files(name))
    except FileNotFoundError:
        before = None
    made = library.load(name)
    if not isinstance(made, LoadedModel):
        module = _check_module(made, f"the loader of `model`={model!r}")
        made = _to_loaded_model(module)
    # The state before loading, so that files changed meanwhile are found to differ.
    _BY_STRING.put(model, made, before or _file_state(library.list_files(name)))
    return made


def _call(model: Callable[[], Any]) -> nn.Module:
    """Return the module that a callable makes."""
    what = "`model`, where it is a callable,"
    try:
        made = model()
    except TypeError:
        reason = _missing_arguments(model)
        if not reason:
            raise
        msg = f"{what} must return a module without being given anything: {reason}."
        raise TypeError(msg) from None
    return _check_module(made, what)


def _missing_arguments(model: Callable[..., Any]) -> str:
    """Return which arguments a call lacks; "" if none, or if they are not known."""
    try:
        inspect.signature(model).bind()
    except (TypeError, ValueError) as error:
        return str(error) if isinstance(error, TypeError) else ""
    return ""


def _check_module(made: Any, what: str) -> nn.Module:
    """Check that a callable or loader returned a module."""
    if not isinstance(made, nn.Module):
        msg = f"{what} must return a torch.nn.Module, got {type(made).__name__}."
        raise TypeError(msg)
    return made
