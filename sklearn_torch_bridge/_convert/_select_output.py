"""Pick one value out of what a model returned; never guess."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import PackedSequence

from sklearn_torch_bridge._errors import OutputError
from sklearn_torch_bridge._types import Selector

__all__ = ["describe_fields", "is_container", "iter_fields", "select_output"]

_PREFERRED = ("sentence_embedding", "last_hidden_state")


def select_output(value: Any, output: Selector = None) -> Any:
    """Return the one value of `value` that `output` names.

    With ``output=None`` a value that is no container is itself, a tuple or list of
    one is its element, and of a mapping or dataclass that has it, first
    ``sentence_embedding``, then ``last_hidden_state``.

    >>> select_output({"logits": 1, "hidden": 2}, "hidden")
    2
    """
    if output is None and isinstance(value, torch.Tensor):
        return value
    chosen = _default(value) if output is None else _named(value, output)
    if is_container(chosen):
        if output is None or _only_element(chosen) is None:
            raise OutputError(_ambiguous(chosen, output))
        return _only_element(chosen)
    return chosen


def is_container(value: Any) -> bool:
    """Tell whether `value` holds several values instead of being one."""
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


def describe_fields(value: Any) -> str:
    """List the fields of a container with their shapes, for an error message."""
    fields = [f"{name!r} {_describe(item)}" for name, item in iter_fields(value)]
    return ", ".join(fields) if fields else "no fields"


def _describe(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if shape is not None:
        return str(tuple(shape))
    if isinstance(value, (tuple, list)):
        return f"({type(value).__name__} of {len(value)})"
    return f"({type(value).__name__})"


def _only_element(value: Any) -> Any:
    """Give the element of a tuple or list of one, else None."""
    if isinstance(value, (tuple, list)) and len(value) == 1:
        element = value[0]
        return None if is_container(element) else element
    return None


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


def _named(value: Any, output: str | int) -> Any:
    if is_container(value):
        fields = dict(iter_fields(value))
        if output in fields and fields[output] is not None:
            return fields[output]
        if isinstance(output, int) and not isinstance(value, Mapping):
            items = list(fields.values())
            if -len(items) <= output < len(items) and items[output] is not None:
                return items[output]
        what = f"a {type(value).__name__} with the fields {describe_fields(value)}"
    elif isinstance(output, str) and not isinstance(value, torch.Tensor):
        if hasattr(value, output):
            return getattr(value, output)
        what = f"a {type(value).__name__} without such an attribute"
    else:
        what = f"one value of shape {tuple(getattr(value, 'shape', ()))}"
    msg = (
        f"`output` must name a field of what the model returned, got {output!r}. "
        f"The model returned {what}."
    )
    if not is_container(value):
        msg += " Leave `output` at None to take it."
    raise OutputError(msg)


def _ambiguous(value: Any, output: Selector) -> str:
    where = "the model returned" if output is None else f"`output`={output!r} is"
    if isinstance(value, PackedSequence):
        return (
            f"{where} a PackedSequence, whose entries are not one a row. Let the model "
            "call torch.nn.utils.rnn.pad_packed_sequence first."
        )
    return (
        f"{where} a {type(value).__name__} with the fields {describe_fields(value)}; "
        "choose one of them with `output`."
    )
