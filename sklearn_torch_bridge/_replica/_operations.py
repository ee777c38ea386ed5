"""What is written in the schema of an operation: what it writes to, and if it draws."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from sklearn_torch_bridge._torch_private import OPERATOR_TYPES, overloads_of, schema_of

__all__ = ["Operation", "operation"]

# Arguments that say whether an operation draws, or works on the batch as a whole.
_SWITCHES = ("train", "training", "use_input_stats")
_SHARES = ("dropout", "dropout_p")
_RUNNING = ("running_mean", "running_var")


@dataclass(frozen=True)
class Operation:
    """One overload of an operation of torch; nothing of note about most of them."""

    names: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    is_random: bool = False
    seeded: Any = None  # an overload that takes a generator
    is_batch_norm: bool = False
    measures_range: bool = False
    is_plain: bool = True
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return all arguments by name."""
        return {**dict(zip(self.names, args, strict=False)), **kwargs}

    def writes_to(self, given: Mapping[str, Any]) -> list[torch.Tensor]:
        """List the tensors that a call writes to."""
        names = self.written
        if any(given.get(name) is True for name in _SWITCHES):
            names += _RUNNING  # no schema says that
        found = []
        for name in names:
            value = given.get(name)
            several = value if isinstance(value, (list, tuple)) else (value,)
            found += [one for one in several if isinstance(one, torch.Tensor)]
        return found

    def draws(self, given: Mapping[str, Any]) -> bool:
        """Check whether a call draws random numbers."""
        if not self.is_random:
            return False
        known = {**self.defaults, **given}  # torch leaves out what is the default
        if any(known.get(name) is False for name in _SWITCHES):
            return False
        shares = _SHARES + (("p",) if "train" in self.names else ())
        return all(known.get(name) != 0 for name in shares)

    def mixes_rows(self, given: Mapping[str, Any]) -> bool:
        """Check whether a call lets rows of a batch influence each other."""
        if self.is_batch_norm:
            return any(given.get(name) is True for name in _SWITCHES)
        return self.measures_range and given.get("dtype") is not torch.float16


@functools.cache
def operation(function: Any) -> Operation:
    """Return what the schema of an operation says; asked once for each overload."""
    if not isinstance(function, OPERATOR_TYPES[0]):  # of higher order: a loop, say
        return Operation()
    arguments = schema_of(function).arguments
    names = tuple(one.name for one in arguments)
    written = tuple(
        one.name for one in arguments if one.alias_info and one.alias_info.is_write
    )
    is_random = torch.Tag.nondeterministic_seeded in function.tags
    name = schema_of(function).name
    is_norm = "_norm" in name and any(switch in names for switch in _SWITCHES)
    measures = _measures_range(name)
    return Operation(
        names,
        written,
        is_random,
        _seeded(function, names) if is_random else None,
        "batch_norm" in name,
        measures,
        is_plain=not (written or is_random or is_norm or measures),
        defaults={one.name: one.default_value for one in arguments if is_random},
    )


def _seeded(function: Any, names: tuple[str, ...]) -> Any:
    """Return the overload that differs by a generator, if by anything."""
    if "generator" in names:
        return function
    wanted = {*names, "generator"}
    return next(
        (
            one
            for one in overloads_of(function)
            if {argument.name for argument in schema_of(one).arguments} == wanted
        ),
        None,
    )


def _measures_range(name: str) -> bool:
    """Check whether an operation quantises by the range of all values that it gets.

    >>> _measures_range("quantized::linear_dynamic"), _measures_range("aten::linear")
    (True, False)
    """
    is_dynamic = "quantize" in name and "dynamic" in name and "fp16" not in name
    is_recurrent = name in ("aten::quantized_lstm", "aten::quantized_gru")
    return is_dynamic or is_recurrent or "choose_qparams" in name
