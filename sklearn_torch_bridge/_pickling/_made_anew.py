"""Pickle what torch does not, or not among tensors that are kept elsewhere.

Modules with parametrizations, whose class is made anew, and generators, whose state is
a tensor: unpickled from another memory (torch 2.13) it ends the process.
"""

from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from sklearn_torch_bridge._devices import available
from sklearn_torch_bridge._torch_private import add_parametrized_class

__all__ = ["fill_parametrized", "new_generator", "new_parametrized", "reduced"]


def reduced(value: Any) -> tuple[Any, ...] | None:
    """Return how to make such an object again; None for all others."""
    if isinstance(value, torch.Generator):
        state = value.get_state().numpy().tobytes()
        return new_generator, (str(value.device), state)
    if isinstance(value, nn.Module) and parametrize.is_parametrized(value):
        cls: Any = type(value).__bases__[0]
        state = cls.__getstate__(value)
        return new_parametrized, (cls,), state, None, None, fill_parametrized
    return None


def new_generator(device: str, state: bytes) -> torch.Generator:
    """Make a generator that goes on from a state."""
    generator = torch.Generator(available(device))
    values = torch.frombuffer(bytearray(state), dtype=torch.uint8)
    if generator.device.type == torch.device(device).type:
        generator.set_state(values)
    return generator


def new_parametrized(cls: type[nn.Module]) -> nn.Module:
    """Make a module without content."""
    return cls.__new__(cls)


def fill_parametrized(module: Any, state: Any) -> None:
    """Give a module its content, and a class of its own for its parametrizations."""
    module.__setstate__(state)
    add_parametrized_class(module, list(module.parametrizations))
