"""Write an extractor into a folder, and make one of what is there.

Nothing in the folder is run as code: the file names are fixed, no class or path named
inside is looked up, and the architecture comes from the caller.
"""

import functools
import inspect
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from sklearn_torch_bridge._packages import VERSIONS
from sklearn_torch_bridge._pickling import (
    ModuleCall,
    Shared,
    deep_copy,
    is_module_call,
    module_called,
)
from sklearn_torch_bridge._storing._json import NotStorableError, decode, encode
from sklearn_torch_bridge._storing._safetensors import (
    State,
    check_state,
    digest_of_state,
    fill,
    layout_of_state,
    state_of,
)
from sklearn_torch_bridge._storing._saved_folder import (
    check_target,
    read_config,
    read_weights,
    write_folder,
)
from sklearn_torch_bridge.models import load_model

__all__ = ["read_extractor", "write_extractor"]

_GIVEN_AGAIN = ("model", "preprocess", "pooling")  # where they are objects
_LEFT_OUT = ("cache",)  # a path of this machine, which changes no result
_PROGRAMS = ("torchscript:", "export:")  # strings that name code
_LEARNT = (
    *("n_features_in_", "feature_names_in_", "_n_features_out", "_layer_widths"),
    *("_no_rows", "_sklearn_output_config"),
)


def write_extractor(
    extractor: Any, folder: str | os.PathLike[str], *, left_out: Collection[str] = ()
) -> None:
    """Store an extractor in `folder`: all of it, or nothing of it.

    Of what was learnt, the names `left_out` are out of date.
    """
    target = Path(folder)
    check_target(target)  # before the weights are read
    content, state = _describe(extractor, {*_LEARNT} - {*left_out})
    write_folder(target, content, state)


def read_extractor(
    cls: type[Any], folder: str | os.PathLike[str], given: Mapping[str, Any]
) -> Any:
    """Make an extractor of what `write_extractor` stored, and of `given` objects."""
    target = Path(folder)
    config = read_config(target)
    parameters, learnt = _decoded(cls, config)
    _check_given(config, given)
    parameters |= {name: given[name] for name in config["again"]}
    if given["model"] is not None:
        parameters["model"] = given["model"]
    weights = config["weights"]
    if weights and weights["stored"]:
        state = read_weights(target, weights["digest"])
        _check_weights(state, weights, whose="the stored file")
        parameters["model"] = _filled(given["model"], state, weights["digest"])
        _check_call(parameters["model"], weights.get("call"))
    elif weights:
        found = state_of(module_called(load_model(given["model"]).module))
        _check_weights(found, weights, whose="`model`")
    extractor = cls(**parameters)
    vars(extractor).update(learnt)
    return extractor


def _describe(
    extractor: Any, known: Collection[str]
) -> tuple[dict[str, Any], State | None]:
    """Return the settings, and the weights where the model is a module."""
    parameters = extractor.get_params(deep=False)
    again = {
        name: _name_of(parameters[name])
        for name in _GIVEN_AGAIN
        if _must_be_given_again(parameters.get(name))
    }
    weights, state = _describe_weights(parameters["model"])
    left_out = {*again, *_LEFT_OUT}
    stored = {name: parameters[name] for name in parameters if name not in left_out}
    learnt = {name: value for name, value in vars(extractor).items() if name in known}
    content = {
        "class": _name_of(type(extractor)),
        "versions": VERSIONS,
        "parameters": {name: _encoded(name, value) for name, value in stored.items()},
        "again": again,
        "learnt": {name: _encoded(name, value) for name, value in learnt.items()},
        "weights": weights,
    }
    return content, state


def _describe_weights(model: Any) -> tuple[dict[str, Any], State | None]:
    """Return the layout and the digest of the weights, and those of a module."""
    if isinstance(model, str):
        return {}, None
    is_module = isinstance(model, (nn.Module, Shared)) or is_module_call(model)
    try:
        state = state_of(module_called(load_model(model).module))
    except ValueError:
        if is_module:
            raise
        return {}, None  # the callable makes them again, whatever they are
    layout, digest = layout_of_state(state), digest_of_state(state)
    weights = {"stored": is_module, "digest": digest, "tensors": layout}
    weights |= {"call": _call_of(model)} if is_module_call(model) else {}
    return weights, state if is_module else None


def _must_be_given_again(value: Any) -> bool:
    """Check for an object, and for a string that names a program."""
    is_text = isinstance(value, str)
    return value.startswith(_PROGRAMS) if is_text else value is not None


def _encoded(name: str, value: Any) -> Any:
    try:
        return encode(value)
    except NotStorableError as error:
        msg = (
            f"`{name}` must be made of str, numbers, dtypes, devices and lists of them "
            f"to be saved, got {value!r}."
        )
        raise TypeError(msg) from error


def _name_of(value: Any) -> str:
    """Return a name of an object for readers; nothing is ever looked up by it."""
    if isinstance(value, str):
        return value
    if isinstance(value, Shared):
        value = value.module
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def _decoded(
    cls: type[Any], config: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parameters and what was learnt; refuse names that `cls` has not."""
    known = set(inspect.signature(cls).parameters) - set(_LEFT_OUT)
    names = {*config["parameters"], *config["again"]}
    unknown = (names - known) | (config["learnt"].keys() - {*_LEARNT})
    unknown |= config["again"].keys() - {*_GIVEN_AGAIN}
    if unknown or "model" not in names:
        what = f"unknown: {min(unknown)!r}" if unknown else "without a model"
        msg = f"the saved settings are {what}. They are of {config['versions']}."
        raise ValueError(msg)
    parameters, learnt = (
        {name: decode(encoded) for name, encoded in config[part].items()}
        for part in ("parameters", "learnt")
    )
    for name in _GIVEN_AGAIN:
        if _must_be_given_again(parameters.get(name)):
            msg = (
                f"the saved `{name}` must be one that `save` stores, and "
                f"{str(parameters[name])[:80]!r} would have to be given to `load`."
            )
            raise ValueError(msg)
    return parameters, learnt


def _check_given(config: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Check that exactly what was not stored is given again."""
    for name, kind in config["again"].items():
        if given[name] is None:
            is_program = str(kind).startswith(_PROGRAMS)
            why = "a program to run" if is_program else "and objects are not stored"
            msg = f"`{name}` must be given to `load` again: it was {kind}, {why}."
            raise ValueError(msg)
    for name in ("preprocess", "pooling"):
        if given[name] is not None and name not in config["again"]:
            msg = (
                f"`{name}` must not be given to `load`: it was stored, as "
                f"{config['parameters'].get(name)!r}. Change it with set_params."
            )
            raise ValueError(msg)


def _call_of(model: Any) -> str | None:
    """Return what is called of a module: the name of a method, and what is filled in.

    >>> import functools
    >>> _call_of(functools.partial(nn.ReLU().forward, inplace=True))
    'forward(inplace=True)'
    """
    if isinstance(model, functools.partial):
        given = [*map(repr, model.args)]
        given += [f"{name}={value!r}" for name, value in sorted(model.keywords.items())]
        return f"{_call_of(model.func) or 'module'}({', '.join(given)})"
    return getattr(model, "__name__", None) if is_module_call(model) else None


def _check_call(model: Any, saved: str | None) -> None:
    """Check that a method is given where one was saved, and the same."""
    call = _call_of(model)
    if call != saved:
        what = "a module" if saved is None else f"its method or partial {saved!r}"
        msg = f"`model` must be {what}, as it was saved, got {call or 'a module'!r}."
        raise ValueError(msg)


def _check_weights(state: State, weights: Mapping[str, Any], *, whose: str) -> None:
    check_state(state, weights["tensors"], whose=whose)
    if digest_of_state(state) != weights["digest"]:
        msg = f"{whose} must have the weights that were saved; their digest differs."
        raise ValueError(msg)


def _filled(model: Any, state: State, digest: str) -> Any:
    """Return a module, or a method, like `model` with these weights, which stays."""
    own = _own_module(model)
    module = module_called(own)
    check_state(state_of(module), layout_of_state(state), whose="`model`")
    fill(module, state)
    if digest_of_state(state_of(module)) != digest:
        msg = (
            "`model` must hold each weight apart where those saved differ: filled with "
            "them it has other values. Has it other ties, or a state of its own making?"
        )
        raise ValueError(msg)
    return own.forward if isinstance(own, ModuleCall) else module


def _own_module(model: Any) -> nn.Module:
    """Make a module that nobody else holds."""
    if isinstance(model, (nn.Module, Shared, str)) or is_module_call(model):
        module = load_model(model).module
        try:
            copied: nn.Module = deep_copy(module)
        except TypeError as error:
            kind = type(module).__name__
            msg = (
                "`model` must be copyable, so that yours stays as it is, and "
                f"{kind} is not: {error.__cause__}. Give a callable that builds it."
            )
            raise TypeError(msg) from error
        return copied
    made = model() if callable(model) else model
    if is_module_call(made):
        return ModuleCall(made)
    if not isinstance(made, nn.Module):
        msg = (
            "`model` must be a torch.nn.Module or a callable that builds one, got "
            f"{type(made).__name__}."
        )
        raise TypeError(msg)
    return made
