"""How objects are written: their class, and the state that pickle would copy."""

import copyreg
import io
import logging
import os
import random
import socket
import sys
import threading
import typing
from collections.abc import Generator, Iterator, Mapping
from contextvars import ContextVar
from types import AsyncGeneratorType, CoroutineType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from sklearn_torch_bridge._digest._encoder import Encoder
from sklearn_torch_bridge._digest._functions_and_classes import wrote_place
from sklearn_torch_bridge._digest._library_or_user_code import library_of
from sklearn_torch_bridge._digest._outside_values import refuse_carried_attributes
from sklearn_torch_bridge._digest._side_effects import attributes_written
from sklearn_torch_bridge._digest._without_effect import is_without_effect
from sklearn_torch_bridge._torch_private import is_of_compiler

__all__ = [
    "attributes_of",
    "write_context_variable",
    "write_object",
    "write_set",
    "write_thread_local",
]

# What a library keeps on its objects that changes no result: where something was
# loaded from, notes for people, and results kept for later.
_OF_NO_EFFECT = {
    "transformers": {
        *("_commit_hash", "_name_or_path", "name_or_path", "transformers_version"),
        *("_post_init_done", "_processor_class", "warnings_issued"),
    },
    "transformers.tokenization_utils_base": {
        *("_in_target_context_manager", "deprecation_warnings", "files_loaded"),
        *("init_inputs", "init_kwargs", "verbose", "vocab_file"),
    },
    "sentence_transformers": {
        *("_accelerate_placement_hook", "_chat_template_suffix_cache"),
        *("_method_signature_cache", "_model_card_text", "_model_card_vars"),
        *("_modules_placed", "_prompt_length_mapping", "model_card_data"),
    },
    "sklearn": {"_stop_words_id"},  # the address of a parameter
    "torch.fx": {
        *("_code", "_graph", "_lineno_map", "_prologue_start", "_tracer_cls"),
        *("_tracer_extras", "meta", "shape_env"),
    },
}

# Names that only type checkers use.
_OF_TYPE_CHECKERS = tuple(
    getattr(typing, name)
    for name in ("NewType", "ParamSpec", "TypeVar", "TypeVarTuple", "TypeAliasType")
    if hasattr(typing, name)  # the last came with Python 3.12
)

_LEFT_OUT: WeakKeyDictionary[type, frozenset[str]] = WeakKeyDictionary()


def attributes_of(value: Any) -> dict[str, Any]:
    """Return the attributes of an object, from its ``__dict__`` and its slots."""
    cls = type(value)
    found = dict(getattr(value, "__dict__", {}))
    for name in copyreg._slotnames(cls):  # type: ignore[attr-defined] # noqa: SLF001 - as pickle does
        if hasattr(value, name):
            found[name] = getattr(value, name)
    return _with_effect(found, cls)


def _with_effect(attributes: Mapping[str, Any], cls: type) -> dict[str, Any]:
    """Leave out what the libraries of a class do not use in a forward pass."""
    left_out = _LEFT_OUT.get(cls)
    if left_out is None:
        homes = [f"{base.__module__}." for base in cls.__mro__]
        left_out = _LEFT_OUT[cls] = frozenset(
            name
            for library, names in _OF_NO_EFFECT.items()
            if any(home.startswith(f"{library}.") for home in homes)
            for name in names
        )
    return {name: attributes[name] for name in attributes if name not in left_out}


def write_object(encoder: Encoder, value: Any) -> None:
    """Write any object as pickle would take it apart."""
    cls = type(value)
    if wrote_place(encoder, value):  # a ufunc, or another named object
        return
    if is_of_compiler(cls) or is_without_effect(value):
        encoder.add_part(cls, "class", cls.__name__)
        encoder.add(value.name if isinstance(value, logging.Logger) else "")
        return
    if isinstance(value, _OF_TYPE_CHECKERS):
        encoder.put(b"type name", f"{cls.__name__} {value.__name__}".encode())
        return
    try:
        function, arguments, state, items, pairs, setter = _reduced(value)
    except Exception as error:  # noqa: BLE001 - whatever the object's author raises
        found = (words for kinds, words in _UNREADABLE if isinstance(value, kinds))
        what = next(found, "")
        place = "" if what else _place_in_library(value)
        if place:
            encoder.put(b"library", place.encode())
        else:
            what = what or "an object whose state cannot be read"
            encoder.refuse(value, what, error)
        return
    state = None if state == {} else state  # an exception has one once it was raised
    encoder.put(b"object")
    encoder.add_part(function, "maker", getattr(function, "__name__", ""))
    encoder.add_part(arguments, "arguments", cls.__name__)
    if type(state) is dict:
        refuse_carried_attributes(encoder, value, "__call__")
        for attribute in attributes_written(cls) & state.keys():
            encoder.working.leave_out(value, attribute, state[attribute])
        counted = encoder.working.counted(value, _with_effect(state, cls))
        encoder.add_named(counted, "attribute")
    else:
        encoder.add_part(state, "state", cls.__name__)
    encoder.add(setter)
    for held in (items, pairs):
        parts = list(held or ())
        encoder.put(b"items", b"%d" % len(parts))
        for number, part in enumerate(parts):
            encoder.add_part(part, "item", number)


def write_thread_local(encoder: Encoder, value: threading.local) -> None:
    """Write the values that this thread has."""
    encoder.put(b"threadlocal")
    encoder.add_part(type(value), "class", type(value).__name__)
    encoder.add_named(attributes_of(value), "attribute")


def write_context_variable(encoder: Encoder, variable: ContextVar[Any]) -> None:
    """Write the value of a context variable in this context."""
    encoder.put(b"contextvariable", variable.name.encode())
    try:
        value = variable.get()
    except LookupError:
        encoder.put(b"empty")
    else:
        encoder.add_part(value, "value of", variable.name)


def _place_in_library(value: Any) -> str:
    """Return the name of the one object that a library made of a class of its own."""
    home = type(value).__module__
    library = library_of(home)
    for module in (home.partition(".")[0], home) if library else ():
        held = vars(sys.modules.get(module, sys)).copy()
        for name, one in held.items():
            if one is value:
                return f"{library}:{module}.{name}"
    return ""


def write_set(encoder: Encoder, value: Any) -> None:
    """Write an instance of a subclass of set, whose pickling has an order."""
    cls = type(value)
    encoder.put(b"object")
    encoder.add_part(cls, "class", cls.__name__)
    encoder.add(frozenset(value))
    encoder.add_named(attributes_of(value), "attribute")


def _reduced(value: Any) -> tuple[Any, ...]:
    """Return what makes a copy: a function, its arguments, and a state."""
    if isinstance(value, _CHANGING) or type(value).__module__ == "itertools":
        msg = "it changes as it is used"
        raise TypeError(msg)
    reducer = copyreg.dispatch_table.get(type(value))
    if isinstance(value, BaseException):  # distributed has them keep a traceback
        reducer = None
    made = value.__reduce_ex__(4) if reducer is None else reducer(value)
    if isinstance(made, str):
        msg = "a name says nothing about what it stands for"
        raise TypeError(msg)
    parts = (*made, None, None, None, None)[:6]
    if _is_its_attributes(type(value)):
        return (*parts[:2], _state_of(value), *parts[3:])
    return parts


def _is_its_attributes(cls: type) -> bool:
    """Return whether the attributes are the state, as pickle has it by default.

    Slow tokenizers pickle the name of a file instead of what was in it.
    """
    return hasattr(cls, "convert_tokens_to_ids") or all(
        getattr(cls, name) is getattr(object, name)
        for name in ("__getstate__", "__reduce__", "__reduce_ex__")
    )


def _state_of(value: Any) -> dict[str, Any]:
    """Return the attributes that count; of a fast tokenizer those of its engine."""
    state = attributes_of(value)
    engine = state.get("_tokenizer")
    if engine is not None and hasattr(value, "backend_tokenizer"):
        for name in ("_tokenizer", "_vocab", "_merges"):  # the engine was made of these
            state.pop(name, None)
        # Not its padding and truncation, which each call sets.
        for name in ("model", "normalizer", "pre_tokenizer", "post_processor"):
            part = getattr(engine, name)
            state[f"engine {name}"] = None if part is None else part.__getstate__()
        added, splits = engine.get_added_tokens_decoder(), engine.encode_special_tokens
        state["engine"] = type(engine), added, splits
    return state


# The state of these can be read, but is another each time.
_RANDOM = (random.Random, np.random.RandomState, np.random.Generator, torch.Generator)
_CHANGING = (*_RANDOM, np.random.BitGenerator, os._Environ)  # noqa: SLF001 - of os.environ

_UNREADABLE: list[tuple[Any, str]] = [
    (io.IOBase, "an open file"),
    (socket.socket, "a socket"),
    (_RANDOM, "a source of random numbers"),
    (os._Environ, "the environment of this process, not one variable by its name"),  # noqa: SLF001 - as above
    ((Generator, CoroutineType, AsyncGeneratorType), "a generator"),
    (Iterator, "an iterator"),
]
