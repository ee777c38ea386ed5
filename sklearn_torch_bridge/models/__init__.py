"""What the parameter `model` may be, made into a module and its defaults.

A module is itself, and a handle made by `share` its module; a `SentenceTransformer`
brings its own tokenizer. A callable is called, and a string ``"hf:NAME_OR_PATH"`` is
loaded, at first use and once per process.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from sklearn_torch_bridge._share import Shared
from sklearn_torch_bridge.models._hf import hf_files, load_hf
from sklearn_torch_bridge.models._loaded import LoadedModel
from sklearn_torch_bridge.models._st import is_sentence_transformer, with_tokenizer

__all__ = ["LoadedModel", "files_of", "load_model"]


@dataclass(frozen=True)
class _Library:
    """How a prefix is loaded, and which files a name stands for."""

    package: str
    load: Callable[[str], LoadedModel]
    files: Callable[[str], list[Path]]


_LIBRARIES = {"hf": _Library("transformers", load_hf, hf_files)}
_BY_STRING: dict[str, LoadedModel] = {}
_READ_BY_STRING: dict[str, object] = {}  # the state of the files that were read
_BY_CALLABLE: WeakKeyDictionary[Any, LoadedModel] = WeakKeyDictionary()
_LOCK = threading.RLock()


def load_model(model: Any) -> LoadedModel:
    """Give the module that `model` stands for, with what it brings along."""
    if isinstance(model, Shared):
        return _describe(model.module)
    if isinstance(model, nn.Module):
        return _describe(model)
    with _LOCK:
        if isinstance(model, str):
            if model not in _BY_STRING:
                _BY_STRING[model] = _load_string(model)
            return _BY_STRING[model]
        if callable(model):
            if model not in _BY_CALLABLE:
                _BY_CALLABLE[model] = _describe(_call(model))
            return _BY_CALLABLE[model]
    msg = (
        "`model` must be a torch.nn.Module, a string such as 'hf:NAME_OR_PATH', or a "
        f"callable that returns a module, got {model!r}."
    )
    raise TypeError(msg)


def _describe(module: nn.Module) -> LoadedModel:
    if is_sentence_transformer(module):
        return with_tokenizer(module)
    return LoadedModel(module)


def files_of(model: str) -> tuple[str, list[Path]]:
    """Name the package that loads a string, and the files that it will read.

    A model that is not on this machine yet is loaded first. One that was loaded from
    files that have changed since is forgotten, so that it is never taken for what is
    in them now.
    """
    library, name = _split(model)
    try:
        files = library.files(name)
    except FileNotFoundError:
        load_model(model)
        files = library.files(name)
    with _LOCK:
        if model in _BY_STRING and _READ_BY_STRING[model] != _state_of(files):
            del _BY_STRING[model]
    return library.package, files


def _state_of(files: list[Path]) -> object:
    """Tell what differs when a file has been written to, or is another."""
    found = [(file, file.stat()) for file in files]
    return [
        (str(file), now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
        for file, now in found
    ]


def _split(model: str) -> tuple[_Library, str]:
    prefix, colon, name = model.partition(":")
    if not colon or prefix not in _LIBRARIES or not name:
        known = ", ".join(f"'{key}:NAME_OR_PATH'" for key in _LIBRARIES)
        msg = f"`model`, where it is a string, must be {known}, got {model!r}."
        raise ValueError(msg)
    return _LIBRARIES[prefix], name


def _load_string(model: str) -> LoadedModel:
    library, name = _split(model)
    try:
        before: object = _state_of(library.files(name))
    except FileNotFoundError:
        before = None
    loaded = library.load(name)
    # Of before, so that files that change meanwhile are seen to differ.
    _READ_BY_STRING[model] = before or _state_of(library.files(name))
    return loaded


def _call(model: Callable[[], Any]) -> nn.Module:
    made = model()
    if not isinstance(made, nn.Module):
        msg = (
            "`model`, where it is a callable, must return a torch.nn.Module, got "
            f"{type(made).__name__}."
        )
        raise TypeError(msg)
    return made
