"""Random operations that draw from a generator of ours instead of the global one."""

from collections.abc import Mapping
from typing import Any

import torch

from sklearn_torch_bridge._torch_private import schema_of

__all__ = ["Generators", "drawn_shape", "redirected"]


class Generators:
    """One generator for each device, all from one seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._made: dict[torch.device, torch.Generator] = {}

    def on(self, device: torch.device) -> torch.Generator:
        """Return the generator of a device."""
        if device not in self._made:
            self._made[device] = torch.Generator(device).manual_seed(self._seed)
        return self._made[device]


def drawn_shape(given: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Return the shape of what a call draws; None where its arguments do not say."""
    if "size" in given:
        return tuple(given["size"])
    first = next((one for one in given.values() if isinstance(one, torch.Tensor)), None)
    return None if first is None else tuple(first.shape)


def redirected(
    function: Any, seeded: Any, given: dict[str, Any], generators: Generators
) -> Any:
    """Run a random operation with a generator of ours; NotImplemented if none can be.

    `seeded` is the overload of `function` that takes a generator.
    """
    device = _device_of(given)
    if device.type == "meta":  # where nothing is drawn
        return NotImplemented
    generator = generators.on(device)
    if seeded is not None:
        return _call(seeded, {**given, "generator": generator})
    if function is torch.ops.aten.native_dropout.default:
        return _dropout(given["input"], given["p"], generator)
    return NotImplemented


def _call(function: Any, given: dict[str, Any]) -> Any:
    """Call with the first arguments by place: the name of one may be ``self``."""
    left, by_place = dict(given), []
    for argument in schema_of(function).arguments:
        if argument.kwarg_only or argument.name not in left:
            break
        by_place.append(left.pop(argument.name))
    return function(*by_place, **left)


def _device_of(given: Mapping[str, Any]) -> torch.device:
    device = given.get("device")
    if device is not None:
        return torch.empty(0, device=device).device  # "cuda" is one of several
    tensors = (one for one in given.values() if isinstance(one, torch.Tensor))
    first = next(tensors, None)
    return torch.get_default_device() if first is None else first.device


def _dropout(
    values: torch.Tensor, p: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Do what accelerators do in one kernel, which takes no generator."""
    kept = torch.empty_like(values).bernoulli_(1 - p, generator=generator)
    return values * kept * (1 / (1 - p) if p < 1 else 0), kept.bool()
