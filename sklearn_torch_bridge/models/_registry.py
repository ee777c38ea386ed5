"""From what the user gave as `model` to a module; each string is loaded once.

A module is itself, and a handle made by `share` its module; some objects bring along
what they know. A callable is called, and a string ``"PREFIX:NAME"`` loaded, at first
use and once per process. Models of strings stay loaded while anybody uses them, and
the last few beyond that, so that the next fold of a search finds them.
"""

import inspect
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from torch import nn

from sklearn_torch_bridge._free_memory import available_bytes
from sklearn_torch_bridge._pickling import Shared
from sklearn_torch_bridge.models._hf import hf_files, hf_opens_files, load_hf
from sklearn_torch_bridge.models._loaded_model import LoadedModel
from sklearn_torch_bridge.models._skorch import is_net, module_of_net
from sklearn_torch_bridge.models._st import (
    is_sentence_transformer,
    load_st,
    st_files,
    with_tokenizer,
)
from sklearn_torch_bridge.models._timm import load_timm, timm_files
from sklearn_torch_bridge.models._torch_files import load_export, load_torchscript
from sklearn_torch_bridge.models._torchvision import load_torchvision

__all__ = [
    "files_of",
    "is_loaded",
    "load_model",
    "may_bring_preprocess",
    "opens_files",
    "register",
]

_KEPT = 8  # models of strings that nobody uses now
_SHARE = 4  # of the memory that is free: what those may take, at most one part of it

Loader = Callable[[str], nn.Module | LoadedModel]
Files = Callable[[str], Sequence[Path] | None]


@dataclass(frozen=True)
class _Library:
    """How a prefix is loaded, and what can be told without loading."""

    load: Loader
    package: str | None = None  # whose version counts
    files: Files | None = None  # all that a name stands for
    opens_files: Callable[[str], bool] | None = None
    what: str = "NAME_OR_PATH"


def _never(_: str) -> bool:
    return False


def _always(_: str) -> bool:
    return True


def _untold(_: str) -> None:
    """Say that no files are known."""


def _only(path: str) -> list[Path]:
    if not Path(path).is_file():
        raise FileNotFoundError(path)
    return [Path(path)]


_LIBRARIES = {
    "hf": _Library(load_hf, "transformers", hf_files, hf_opens_files),
    "st": _Library(load_st, "sentence_transformers", st_files, _never),
    "timm": _Library(load_timm, "timm", timm_files, _always),
    "torchvision": _Library(load_torchvision, opens_files=_always, what="NAME"),
    "torchscript": _Library(load_torchscript, "torch", _only, _never, "PATH"),
    "export": _Library(load_export, "torch", _only, _never, "PATH"),
}
_LOCK = threading.RLock()


class _Loaded:
    """The models of strings, with the state of the files that they were read from."""

    def __init__(self) -> None:
        self._alive: WeakValueDictionary[str, LoadedModel] = WeakValueDictionary()
        self._kept: OrderedDict[str, LoadedModel] = OrderedDict()
        self._read: dict[str, object] = {}

    def get(self, model: str) -> LoadedModel | None:
        found = self._alive.get(model)
        if found is not None:
            self._kept[model] = found
            self._kept.move_to_end(model)
        return found

    def put(self, model: str, loaded: LoadedModel, state: object) -> None:
        self._alive[model] = loaded
        self._read[model] = state
        self._kept[model] = loaded
        self._make_room()

    def forget(self, model: str) -> None:
        self._alive.pop(model, None)
        self._kept.pop(model, None)
        self._read.pop(model, None)

    def state(self, model: str) -> object:
        """Give the state of the files of a model that is loaded, else None."""
        return self._read[model] if model in self._alive else None

    def _make_room(self) -> None:
        """Let go of those used longest ago: a few stay, as far as memory goes."""
        free = available_bytes()
        sizes = {name: _n_bytes(one.module) for name, one in self._kept.items()}
        while len(self._kept) > 1:
            total = sum(sizes.values())
            fits = free is None or total * _SHARE <= free + total
            if len(self._kept) <= _KEPT and fits:
                return
            oldest, _ = self._kept.popitem(last=False)
            del sizes[oldest]


def _n_bytes(module: nn.Module) -> int:
    tensors = chain(module.parameters(), module.buffers())
    return sum(tensor.nbytes for tensor in tensors)


_BY_STRING = _Loaded()
_BY_CALLABLE: WeakKeyDictionary[Any, LoadedModel] = WeakKeyDictionary()


def register(
    prefix: str,
    loader: Loader,
    *,
    files: Files | None = None,
    package: str | None = None,
) -> None:
    """Let strings ``"PREFIX:NAME"`` name models of your own.

    Parameters
    ----------
    prefix : str
        What stands before the colon, an identifier. One that is registered already is
        replaced, for what was not loaded yet. It is known to this process alone: where
        others load the model (``n_jobs`` with processes, a pickle opened elsewhere),
        register it in a module that they import, or give the callable as `model`.
    loader : callable
        Takes the name behind the colon and returns a module, or a `LoadedModel` with
        what the module brings along. It is called at first use, once per process.
    files : callable, default=None
        Takes the name and lists the files that `loader` reads; raises
        `FileNotFoundError` where they are not there yet. Give it if these files (and
        `package`) decide all that the model computes: a model is then told apart by
        them, and not loaded where a cache has all rows. Without it, a model is told
        apart by its weights and code.
    package : str, default=None
        The package whose version may change what the model computes.

    Raises
    ------
    ValueError
        If `prefix` is no identifier.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sklearn_torch_bridge import TorchFeatureExtractor, models
    >>> models.register("tiny", lambda name: torch.nn.Linear(2, int(name)))
    >>> TorchFeatureExtractor("tiny:3").transform(np.ones((1, 2))).shape
    (1, 3)
    """
    given: Any = prefix
    if not (isinstance(given, str) and given.isidentifier()):
        msg = f"`prefix` must be an identifier, got {prefix!r}."
        raise ValueError(msg)
    with _LOCK:
        _LIBRARIES[prefix] = _Library(loader, package, files, what="NAME")


def load_model(model: Any) -> LoadedModel:
    """Give the module that `model` stands for, with what it brings along."""
    if isinstance(model, Shared):
        return _describe(model.module)
    if isinstance(model, nn.Module):
        return _describe(model)
    if is_net(model):
        return _describe(module_of_net(model))
    with _LOCK:
        if isinstance(model, str):
            return _BY_STRING.get(model) or _load_string(model)
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


def is_loaded(model: str) -> bool:
    """Tell whether a string was loaded in this process, and is still known."""
    with _LOCK:
        return _BY_STRING.get(model) is not None


def files_of(model: str) -> tuple[str, list[str], Sequence[Path]] | None:
    """Give the prefix and the packages of a string, and the files that it will read.

    None where nothing tells what is read.

    A model that is not on this machine yet is loaded first. One that was loaded from
    files that have changed since is forgotten, so that it is never taken for what is
    in them now.
    """
    library, name = _split(model)
    if library.files is None:
        return None
    try:
        files = library.files(name)
    except FileNotFoundError:
        load_model(model)
        files = library.files(name)
    if files is None:
        return None
    with _LOCK:
        known = _BY_STRING.state(model)
        if known is not None and known != _state_of(files):
            _BY_STRING.forget(model)
    packages = [library.package] if library.package else []
    if library.opens_files is not None and library.opens_files(name):
        packages.append("torchvision")  # with it, transformers resizes otherwise
    return model.partition(":")[0], packages, files


def may_bring_preprocess(model: Any) -> bool:
    """Tell whether rows of any kind may do, without loading the model."""
    module = model.module if isinstance(model, Shared) else model
    if isinstance(module, nn.Module):
        return is_sentence_transformer(module)
    return isinstance(model, str)


def opens_files(model: Any) -> bool:
    """Tell whether str among the rows of `model` name files; loads it if need be."""
    if not isinstance(model, str):
        return False
    library, name = _split(model)
    with _LOCK:
        loaded = _BY_STRING.get(model)
    if loaded is None and library.opens_files is not None:
        with suppress(FileNotFoundError):  # it is not here yet
            return library.opens_files(name)
    return (loaded or load_model(model)).opens_files


def _state_of(files: Sequence[Path] | None) -> object:
    """Tell what differs when a file has been written to, or is another."""
    found = [(file, file.stat()) for file in files or ()]
    return [
        (str(file), now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
        for file, now in found
    ]


def _split(model: str) -> tuple[_Library, str]:
    prefix, colon, name = model.partition(":")
    if not colon or prefix not in _LIBRARIES or not name:
        known = ", ".join(f"'{key}:{one.what}'" for key, one in _LIBRARIES.items())
        msg = f"`model`, where it is a string, must be one of {known}, got {model!r}."
        if colon and prefix.isidentifier() and name:
            msg += f" {prefix!r} would have to be registered, in each process."
        raise ValueError(msg)
    return _LIBRARIES[prefix], name


def _load_string(model: str) -> LoadedModel:
    library, name = _split(model)
    files = library.files or _untold
    try:
        before = _state_of(files(name))
    except FileNotFoundError:
        before = None
    made = library.load(name)
    if not isinstance(made, LoadedModel):
        made = _describe(_checked(made, f"the loader of `model`={model!r}"))
    # Of before, so that files that change meanwhile are seen to differ.
    _BY_STRING.put(model, made, before or _state_of(files(name)))
    return made


def _call(model: Callable[[], Any]) -> nn.Module:
    what = "`model`, where it is a callable,"
    try:
        made = model()
    except TypeError:
        reason = _why_not_callable(model)
        if not reason:
            raise
        msg = f"{what} must return a module without being given anything: {reason}."
        raise TypeError(msg) from None
    return _checked(made, what)


def _why_not_callable(model: Callable[..., Any]) -> str:
    """Say what arguments are missing; nothing if none are, or nobody knows."""
    try:
        inspect.signature(model).bind()
    except (TypeError, ValueError) as error:
        return str(error) if isinstance(error, TypeError) else ""
    return ""


def _checked(made: Any, what: str) -> nn.Module:
    if not isinstance(made, nn.Module):
        msg = f"{what} must return a torch.nn.Module, got {type(made).__name__}."
        raise TypeError(msg)
    return made
