"""Select one value of what a model returned; refuse where that is ambiguous."""

import dataclasses
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import PackedSequence

from sklearn_torch_bridge._errors import OutputError
from sklearn_torch_bridge._types import Selector

__all__ = ["is_container", "iter_fields", "select_output"]

_MOST_NAMED = 20
_PREFERRED = ("sentence_embedding", "last_hidden_state")


def select_output(value: Any, output: Selector = None) -> Any:
    """Return the one value of `value` that `output` names.

    None selects what is no container, the element of a tuple or list of one, and the
    ``sentence_embedding`` or else ``last_hidden_state`` of a mapping or dataclass. A
    tuple names a field, a field of that field, and so on.

    >>> select_output({"logits": 1, "hidden": 2}, "hidden")
    2
    >>> select_output((1, {"hidden": 2}), (1, "hidden"))
    2
    """
    if output is None and isinstance(value, torch.Tensor):
        return value
    if output is None:
        chosen = _default(value)
    else:
        chosen, steps = value, output if isinstance(output, tuple) else (output,)
        for depth, step in enumerate(steps):
            chosen = _named(chosen, step, output, steps[:depth])
    if not is_container(chosen):
        return chosen
    only = None if output is None else _only_element(chosen)
    if only is None:
        raise OutputError(_ambiguous(chosen, output))
    return only


def is_container(value: Any) -> bool:
    """Check whether `value` holds several values instead of being one."""
    if isinstance(value, (torch.Tensor, np.ndarray, str, bytes)):
        return False
    return isinstance(value, (Mapping, tuple, list)) or (
        dataclasses.is_dataclass(value) and not isinstance(value, type)
    )


def iter_fields(value: Any) -> Iterator[tuple[str | int, Any]]:
    """Yield the names (keys, attributes or indices) and values of a container."""
    if isinstance(value, Mapping):
        yield from value.items()
    elif dataclasses.is_dataclass(value):
        for item in dataclasses.fields(value):
            yield item.name, getattr(value, item.name)
    elif hasattr(value, "_fields"):  # a NamedTuple
        yield from zip(value._fields, value, strict=True)
    elif hasattr(value, "n_fields"):  # a structure of C, as torch.return_types.max
        yield from zip(type(value).__match_args__, value, strict=True)
    else:
        yield from enumerate(value)


def _list_fields(value: Any) -> str:
    fields = [f"{name!r} {_shape_or_type(item)}" for name, item in iter_fields(value)]
    return ", ".join(fields) or "no fields"


def _list_deeper(value: Any, path: tuple[str | int, ...] = ()) -> str:
    """Say how to name what is inside the fields of a container."""
    found = list(islice(_iter_deeper(value, path), _MOST_NAMED + 1))
    if not found:
        return ""
    more = ", ..." if len(found) > _MOST_NAMED else ""
    listed = [f"{name!r} {_shape_or_type(item)}" for name, item in found[:_MOST_NAMED]]
    return f" Inside the fields are {', '.join(listed)}{more}, each named by a tuple."


def _iter_deeper(
    value: Any, path: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    for name, item in iter_fields(value):
        if not is_container(item) or isinstance(item, PackedSequence):
            continue
        if not path and _only_element(item) is not None:  # a name is enough
            continue
        for inner, part in iter_fields(item):
            if is_container(part):
                yield from _iter_deeper({inner: part}, (*path, name))
            elif isinstance(part, torch.Tensor):
                yield (*path, name, inner), part


def _shape_or_type(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if shape is not None:
        return str(tuple(shape))
    length = f" of {len(value)}" if isinstance(value, (tuple, list)) else ""
    return f"({type(value).__name__}{length})"


def _only_element(value: Any) -> Any:
    """Return the element of a tuple or list of one, else None."""
    is_single = isinstance(value, (tuple, list)) and len(value) == 1
    return value[0] if is_single and not is_container(value[0]) else None


def _default(value: Any) -> Any:
    if not is_container(value):
        return value
    only = _only_element(value)
    if only is not None:
        return only
    named = {name: item for name, item in iter_fields(value) if isinstance(name, str)}
    for name in _PREFERRED:
        if named.get(name) is not None:
            return named[name]
    raise OutputError(_ambiguous(value, None))


def _named(
    value: Any, step: str | int, output: Selector, path: tuple[str | int, ...]
) -> Any:
    """Return the field `step` of what `path`, the steps before it, have led to."""
    if is_container(value):
        fields = dict(iter_fields(value))
        if not isinstance(value, Mapping):  # by position too, from either end
            items = list(fields.values())
            fields |= {**dict(enumerate(items)), **dict(enumerate(items, -len(items)))}
        if fields.get(step) is not None:
            return fields[step]
        fields_of_it = f"{_list_fields(value)}.{_list_deeper(value, path)}"
        what = f"a {type(value).__name__} with the fields {fields_of_it}"
    elif isinstance(step, str) and not isinstance(value, torch.Tensor):
        if hasattr(value, step):
            return getattr(value, step)
        what = f"a {type(value).__name__} without such an attribute."
    else:
        way = f"Take {path!r}" if path else "Leave `output` at None"
        shape = tuple(getattr(value, "shape", ()))
        what = f"one value of shape {shape}. {way} to take it."
    where = f"Under {path!r} is" if path else "The model returned"
    msg = (
        f"`output` must name a field of what the model returned, got {output!r}. "
        f"{where} {what}"
    )
    raise OutputError(msg)


def _ambiguous(value: Any, output: Selector) -> str:
    where = "the model returned" if output is None else f"`output`={output!r} is"
    if isinstance(value, PackedSequence):
        return (
            f"{where} a PackedSequence, whose entries are not one a row. Let the model "
            "call torch.nn.utils.rnn.pad_packed_sequence first."
        )
    path = () if output is None else output if isinstance(output, tuple) else (output,)
    several = _is_one_mapping_a_row(value)
    hint = (
        " Such a list has one entry a row, as detectors return it, and no vector; take "
        "a `layer`, as that of a backbone."
        if several
        else _list_deeper(value, path)
    )
    return (
        f"{where} a {type(value).__name__} with the fields {_list_fields(value)}; "
        f"choose one of them with `output`.{hint}"
    )


def _is_one_mapping_a_row(value: Any) -> bool:
    """Check for what detectors return: a list of mappings, boxes and all."""
    is_list = isinstance(value, list) and len(value) > 0
    return is_list and all(isinstance(item, Mapping) for item in value)
