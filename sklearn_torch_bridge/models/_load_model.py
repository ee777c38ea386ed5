"""Load what the user gave as `model`, and answer questions about it before that.

A module is used as it is, also that of a handle made by `share` or of a net of skorch;
a method of one is run as its forward. Callables are called and strings
``"PREFIX:NAME"`` loaded when used: once per process, and again where a callable would
find something else, or a file has changed.
"""

import inspect
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from sklearn_torch_bridge._pickling import ModuleCall, Shared, is_module_call
from sklearn_torch_bridge.models._by_callable import ByCallable
from sklearn_torch_bridge.models._callable_reads import CallableReads
from sklearn_torch_bridge.models._file_state import FileState
from sklearn_torch_bridge.models._kept_models import KeptModels
from sklearn_torch_bridge.models._loaded_model import LoadedModel
from sklearn_torch_bridge.models._not_a_model import holds_a_module, not_a_model
from sklearn_torch_bridge.models._prompts import Told
from sklearn_torch_bridge.models._registry import find_library, loader_of
from sklearn_torch_bridge.models._sentence_transformers import (
    is_sentence_transformer,
    model_of_encode,
    wrap_sentence_transformer,
)
from sklearn_torch_bridge.models._skorch import is_net, module_of_net

__all__ = [
    "files_of",
    "is_loaded",
    "load_model",
    "may_bring_preprocess",
    "opens_files",
    "told_of",
]

_LOCK = threading.RLock()
_BY_STRING = KeptModels()
_BY_CALLABLE: ByCallable[LoadedModel] = ByCallable()
_READS: ByCallable[CallableReads] = ByCallable()
# By a method or a partial itself, which lives as long as what it was given to.
_BY_CALL: WeakKeyDictionary[Any, ModuleCall] = WeakKeyDictionary()


def load_model(model: Any) -> LoadedModel:
    """Return the module that `model` stands for, with what belongs to it."""
    given = _given(model)
    if isinstance(given, nn.Module):
        return _to_loaded_model(given)
    if is_module_call(given):
        return LoadedModel(_module_of_call(given))
    if is_net(given):
        return _to_loaded_model(module_of_net(given))
    with _LOCK:
        if isinstance(given, str):
            return _loaded(given) or _load_string(given)
        if not callable(given):
            raise not_a_model(given)
        return _loaded(given) or _load_callable(given)


def _given(model: Any) -> Any:
    """Return what a handle is on; of sentence-transformers' `encode`, the model."""
    given = model.module if isinstance(model, Shared) else model
    return model_of_encode(given) or given


def _module_of_call(call: Callable[..., Any]) -> nn.Module:
    """Return a module whose forward `call` is, the same one each time."""
    with _LOCK:
        if call not in _BY_CALL:
            _BY_CALL[call] = ModuleCall(call)
        return _BY_CALL[call]


def is_loaded(model: Any) -> bool:
    """Return whether a string or a callable was loaded here, and is still kept."""
    with _LOCK:
        return _loaded(model) is not None


def _loaded(model: Any) -> LoadedModel | None:
    """Return what a string or callable was loaded to, from what is there now."""
    if not isinstance(model, str):
        found = _BY_CALLABLE.get(model)
        return found if found and _READS[model].are_current(model) else None
    return _BY_STRING.get(model, loader_of(model))


def files_of(model: str) -> tuple[str, list[str], Sequence[Path]] | None:
    """Return the prefix and the packages of a string, and the files that it reads.

    None if its library does not list them. A model that is not on this machine yet is
    loaded first.
    """
    library, name = find_library(model)
    try:
        files = library.list_files(name)
    except FileNotFoundError:
        files = []
    if files is not None and not files:
        load_model(model)
        files = library.list_files(name)
    if files is None:
        return None
    packages = [library.package] if library.package else []
    if library.takes_paths(name):
        packages.append("torchvision")  # with it, transformers resizes otherwise
    return model.partition(":")[0], packages, files


def told_of(model: Any) -> Told | None:
    """Return what is told of a model without loading it; None if it must be loaded.

    It is the same whether the model happens to be loaded or not.
    """
    if isinstance(model, str):
        library, name = find_library(model)
        if library.told is None:
            return None
        try:
            return library.told(name)
        except FileNotFoundError:  # the model is not on this machine yet
            load_model(model)
            return library.told(name)
    given = _given(model)
    is_there = isinstance(given, nn.Module) or is_module_call(given) or is_net(given)
    return load_model(given).told if is_there else None


def may_bring_preprocess(model: Any) -> bool:
    """Return whether rows of any type may do, without loading the model."""
    given = _given(model)
    return isinstance(given, str) or is_sentence_transformer(given)


def opens_files(model: Any) -> bool:
    """Return whether str among the rows name files; load the model if necessary."""
    if not isinstance(model, str):
        return False
    library, name = find_library(model)
    with _LOCK:
        loaded = _loaded(model)
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


def _load_string(model: str) -> LoadedModel:
    """Load the model of a string, and keep it."""
    library, name = find_library(model)
    files = partial(library.list_files, name)
    before = FileState(files)
    made = library.load(name)
    if not isinstance(made, LoadedModel):
        module = _check_module(made, f"the loader of `model`={model!r}")
        made = _to_loaded_model(module)
    after = FileState(files)  # others may have come meanwhile, from the hub
    if before.changed_until(after):
        msg = (
            f"The files of `model`={model!r} changed while it was loaded. Call again "
            "when they are whole."
        )
        raise RuntimeError(msg)
    _BY_STRING.put(model, made, library, after)
    return made


def _load_callable(model: Callable[[], Any]) -> LoadedModel:
    """Call a callable, and keep its module until it would find something else."""
    before = CallableReads(model)
    _BY_CALLABLE[model] = made = _to_loaded_model(_call(model))
    reads = CallableReads(model)  # after the call, which may count or log
    reads.leave_out_changed(before)
    _READS[model] = reads
    return made


def _call(model: Callable[[], Any]) -> nn.Module:
    """Return the module that a callable makes."""
    what = "`model`, where it is a callable,"
    try:
        made = model()
    except TypeError as error:
        if holds_a_module(model):
            raise not_a_model(model) from error
        reason = _missing_arguments(model)
        if not reason:
            raise
        msg = (
            f"{what} must return a module without being given anything: {reason}. A "
            "method of a module is run if it is given bound (`model`=net.encode)."
        )
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
    """Check that a callable or loader returned a module, or a method of one."""
    if is_module_call(made):
        return ModuleCall(made)
    if not isinstance(made, nn.Module):
        msg = f"{what} must return a torch.nn.Module, got {type(made).__name__}."
        raise TypeError(msg)
    return made
