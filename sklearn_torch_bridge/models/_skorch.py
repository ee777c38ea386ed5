"""Nets of skorch, of which the trained module is used."""

import sys
from typing import Any

from torch import nn

__all__ = ["is_net", "module_of_net"]


def is_net(model: Any) -> bool:
    """Check for a net of skorch without importing its library."""
    library = sys.modules.get("skorch")
    return library is not None and isinstance(model, library.NeuralNet)


def module_of_net(net: Any) -> nn.Module:
    """Return the module of a net; it must be initialized."""
    if not getattr(net, "initialized_", False):
        msg = (
            f"`model` must be a fitted net, got {type(net).__name__} without a module: "
            "call its `fit` or `initialize` first."
        )
        raise ValueError(msg)
    module: nn.Module = net.module_
    return module
