"""Padding masks: what models call them, how they are made, and how they are read."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

__all__ = ["MASKS", "read_mask"]

_TWO_AXES = 2


class _Mask(NamedTuple):
    """How a model's mask is made of one that is True for what is real, and read."""

    make: Callable[[torch.Tensor], torch.Tensor]
    read: Callable[[torch.Tensor], torch.Tensor]


def _is_not_padding(mask: torch.Tensor) -> torch.Tensor:
    """Read a mask of torch's own layers: True, or -inf among floats, is padding."""
    is_float = mask.is_floating_point()
    return mask > torch.finfo(mask.dtype).min if is_float else mask == 0


MASKS = {
    "attention_mask": _Mask(make=lambda mask: mask.long(), read=lambda mask: mask),
    "src_key_padding_mask": _Mask(make=torch.logical_not, read=_is_not_padding),
}
"""The arguments of a forward that are padding masks, by name."""


def read_mask(kwargs: Mapping[str, Any]) -> torch.Tensor | None:
    """Return the mask among a model's arguments, as one that is True for what is real.

    >>> read_mask({"src_key_padding_mask": torch.tensor([[False, True]])})
    tensor([[ True, False]])
    """
    for name, given in kwargs.items():
        is_mask = isinstance(given, torch.Tensor) and given.ndim == _TWO_AXES
        if name in MASKS and is_mask:
            return MASKS[name].read(given)
    return None
