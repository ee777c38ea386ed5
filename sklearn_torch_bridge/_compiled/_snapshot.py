"""What a module was at one time, and whether another is just so."""

import functools
import math
import types
from collections import deque
from typing import Any

import numpy as np
import torch
from torch import nn

from sklearn_torch_bridge._replica import copy_module, is_state
from sklearn_torch_bridge._tensor_bytes import contents

__all__ = ["Snapshot"]

# Whether a module trains is set anew for each run; what it compiled is its own affair.
_NOT_COMPARED = frozenset({"training", "_compiled_call_impl"})


class Snapshot:
    """A replica as it was before it ran.

    Replicas of one module share with it what is large, foreign or code, and have the
    rest for themselves: so the shared must be the same object, and the rest be equal,
    part by part. Buffers are compared by the checksums of their values; parameters by
    where they are in memory and, with `by_value`, by their checksums as well.
    """

    def __init__(self, replica: nn.Module, *, by_value: bool) -> None:
        self._by_value = by_value
        self._facts: dict[int, tuple[torch.Tensor, object]] = {}
        self._forwards = _forwards(replica)
        self._then = copy_module(replica, self._keep)

    def is_of(self, replica: nn.Module) -> bool:
        """Tell whether a replica that has not run yet is as the other one was."""
        return _forwards(replica) == self._forwards and self._are_alike(
            replica, self._then, set()
        )

    def _keep(self, tensor: torch.Tensor) -> torch.Tensor:
        kept = tensor.detach()
        self._facts[id(kept)] = kept, self._facts_of(tensor)
        return kept

    def _facts_of(self, tensor: torch.Tensor) -> object:
        place = values = None
        if isinstance(tensor, nn.Parameter):
            place = tensor.data_ptr()
        if place is None or self._by_value:
            values = contents(tensor.detach().cpu())
        return type(tensor), tensor.device, tensor.stride(), place, values

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
    """Take apart what replicas have copies of; None for what has no parts."""
    if isinstance(value, dict):
        return [*value, *value.values()]
    if isinstance(value, nn.Module) or is_state(value):
        return _parts(
            {key: vars(value)[key] for key in vars(value) if key not in _NOT_COMPARED}
        )
    if isinstance(value, (list, tuple, deque)):
        return list(value)
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, functools.partial):
        return [value.func, *value.args, value.keywords]
    return None


def _are_equal(now: Any, then: Any) -> bool:
    if isinstance(now, np.ndarray):
        kinds = (now.dtype, now.shape), (then.dtype, then.shape)
        return kinds[0] == kinds[1] and now.tobytes() == then.tobytes()
    if isinstance(now, float) and math.isnan(now):
        return math.isnan(then)
    equal: object = now == then
    return equal is True
