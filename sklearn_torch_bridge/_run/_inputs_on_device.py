"""The inputs of a model on the device where it runs."""

from collections.abc import Mapping
from typing import Any

import torch

from sklearn_torch_bridge._pinned_memory import to_device
from sklearn_torch_bridge._types import Inputs

__all__ = ["on_device"]


def on_device(inputs: Inputs, device: torch.device) -> Inputs:
    """Move the tensors of a model's inputs, unless there is one, where it should be."""
    if len(inputs.args) == 1 and not inputs.kwargs:
        (only,) = inputs.args
        if isinstance(only, torch.Tensor) and inputs.mask is None:
            if only.device == device:
                return inputs
            return Inputs((to_device(only, device),))
    args, kwargs = _move(inputs.args, device), _move(inputs.kwargs, device)
    return Inputs(args, kwargs, _move(inputs.mask, device), inputs.n_prompt)


def _move(value: Any, device: torch.device) -> Any:
    """Move tensors, however nested, and objects that move themselves."""
    if isinstance(value, torch.Tensor):
        return to_device(value, device)
    if isinstance(value, Mapping):
        return {key: _move(item, device) for key, item in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_move(item, device) for item in value)
    # A batch of graphs, say, holds tensors in a way of its own.
    return value.to(device) if callable(getattr(value, "to", None)) else value
