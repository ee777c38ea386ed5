"""What a module was at one time, and whether another one is equal to it."""

import functools
import math
import types
from collections import deque
from typing import Any

import numpy as np
import torch
from torch import nn

from sklearn_torch_bridge._replica import copy_module, is_state
from sklearn_torch_bridge._tensor_bytes import tensor_checksum

__all__ = ["Snapshot"]

# The training flag is set anew for each run; what a module compiled changes nothing.
_NOT_COMPARED = frozenset({"training", "_compiled_call_impl"})


class Snapshot:
    """A replica as it was before it ran.

    What replicas of one module share with it (what is large, foreign or code) must be
    the same object, and the rest be equal, part by part: buffers by checksum,
    parameters by where they are in memory and, with `by_value`, by checksum as well.
    """

    def __init__(self, replica: nn.Module, *, by_value: bool) -> None:
        self._by_value = by_value
        self._facts: dict[int, tuple[torch.Tensor, object]] = {}
        self._forwards = _forwards(replica)
        self._then = copy_module(replica, self._keep)

    def matches(self, replica: nn.Module) -> bool:
        """Check whether a replica that has not run yet is as the other one was."""
        is_same_code = _forwards(replica) == self._forwards
        return is_same_code and self._are_alike(replica, self._then, set())

    def _keep(self, tensor: torch.Tensor) -> torch.Tensor:
        kept = tensor.detach()
        self._facts[id(kept)] = kept, self._facts_of(tensor)
        return kept

    def _facts_of(self, tensor: torch.Tensor) -> object:
        is_parameter = isinstance(tensor, nn.Parameter)
        by_value = self._by_value or not is_parameter
        values = tensor_checksum(tensor.detach().cpu()) if by_value else None
        address = tensor.data_ptr() if is_parameter else None
        return type(tensor), tensor.device, tensor.stride(), address, values

    def _are_alike(self, now: Any, then: Any, seen: set[tuple[int, int]]) -> bool:
        if now is then:
            return True
        if isinstance(then, torch.Tensor):
            known = self._facts.get(id(then))
            facts = self._facts_of(then) if known is None else known[1]
            return isinstance(now, torch.Tensor) and self._facts_of(now) == facts
        if type(now) is not type(then):
            return False
        if (id(now), id(then)) in seen:  # shared by two, or the end of a cycle
            return True
        seen.add((id(now), id(then)))
        ours, theirs = _parts(now), _parts(then)
        if ours is None or theirs is None:
            return _are_equal(now, then)
        return len(ours) == len(theirs) and all(
            self._are_alike(*pair, seen) for pair in zip(ours, theirs, strict=True)
        )


def _forwards(module: nn.Module) -> list[Any]:
    """List the code that runs: a class may get another `forward`."""
    return [type(part).forward for part in module.modules()]


def _parts(value: Any) -> list[Any] | None:
    """List the parts of what replicas have copies of; None for what has no parts."""
    if isinstance(value, dict):
        return [*value, *value.values()]
    if isinstance(value, nn.Module) or is_state(value):
        state = vars(value)
        return _parts({key: state[key] for key in state if key not in _NOT_COMPARED})
    if isinstance(value, (list, tuple, deque)):
        return list(value)
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, functools.partial):
        return [value.func, *value.args, value.keywords]
    return None


def _are_equal(now: Any, then: Any) -> bool:
    if isinstance(now, np.ndarray):
        is_same_kind = (now.dtype, now.shape) == (then.dtype, then.shape)
        return is_same_kind and now.tobytes() == then.tobytes()
    if isinstance(now, float) and math.isnan(now):
        return math.isnan(then)
    return (now == then) is True
