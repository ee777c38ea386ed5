"""Which axis of a map of features is the channels': the modules before it show it.

The last module that ran before, and that takes one size alone on one axis (a
convolution, a normalisation, a linear layer), has its channels there; so has one that
changes the size of all axes but one (a pooling). Modules are asked by running them on
zeros, whatever they are called.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

__all__ = ["Call", "calls_of", "channels_axis"]

_THREE_AXES = 3

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """What a module without submodules was given, and what it returned."""

    module: nn.Module
    given: torch.Tensor  # of the meta device, with the shape and the dtype
    device: torch.device
    returned: Shape
    turns: bool  # whether it shows the same memory with its axes in another order

    def channels(self) -> int | None:
        """Return where the axis is that the module takes one size of, if it is one.

        A module may turn what it returns: the axis is one that follows no other.
        """
        given, returned = self.given.shape, self.returned
        if len(given) != len(returned):
            return None
        axes = range(1, len(given))
        twice = {axis: self._with_twice(axis) for axis in axes}
        fixed = [axis for axis, shape in twice.items() if shape is None]
        still = _still(returned, [shape for shape in twice.values() if shape])
        if len(fixed) == 1 and still is not None and fixed[0] not in still:
            fixed = still
        if not fixed and sorted(given) != sorted(returned):
            fixed = [axis for axis in axes if given[axis] == returned[axis]]
        return fixed[0] if len(fixed) == 1 else None

    def _with_twice(self, axis: int) -> Shape | None:
        """Return the shape for twice the size on an axis; None if that does not run."""
        shape = list(self.given.shape)
        shape[axis] *= 2
        try:
            zeros = torch.zeros(shape, dtype=self.given.dtype, device=self.device)
            return tuple(self.module.forward(zeros).shape)
        except Exception:  # noqa: BLE001 - of whatever kind: it does not
            return None


@contextmanager
def calls_of(own: nn.Module) -> Iterator[list[Call]]:
    """Record the calls of modules that take a tensor and return one, in their order."""
    calls: list[Call] = []

    def record(module: nn.Module, args: tuple[Any, ...], value: Any) -> None:
        if len(args) != 1 or not all(map(_is_plain, (*args, value))):
            return
        given = args[0]
        turns = (
            given.data_ptr() == value.data_ptr()
            and given.numel() == value.numel()
            and sorted(given.shape) == sorted(value.shape)
            and given.stride() != value.stride()
        )
        shape = torch.empty_like(given, device="meta")
        calls.append(Call(module, shape, given.device, tuple(value.shape), turns))

    handles = [
        part.register_forward_hook(record, prepend=True)
        for part in own.modules()
        if not isinstance(part, torch.jit.ScriptModule) and not any(part.children())
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _is_plain(value: Any) -> bool:
    is_tensor = isinstance(value, torch.Tensor) and value.layout is torch.strided
    return is_tensor and not value.is_nested and value.ndim >= _THREE_AXES


def channels_axis(
    shape: Shape, calls: Sequence[Call], stretched: Callable[[], Sequence[Shape]]
) -> int:
    """Return the axis of the channels of a value that came after `calls`.

    `stretched` gives the shapes of the value for inputs with each axis in turn twice as
    long, where modules leave it open: space follows that of the inputs, which have
    their channels second. Where that shows nothing it is the second, as torch has it.
    """
    has_turned = has_evidence = False
    still: list[int] | None = None
    for call in reversed(calls):
        channels = call.channels()
        has_turned = has_turned or call.turns
        if channels is None:
            continue
        axes = _places(shape, call.returned, channels)
        if len(axes) == 1 and _is_whole(shape, call.returned):
            return axes[0]
        if not has_evidence:
            has_evidence, still = True, _still(shape, stretched())
        if still is not None:
            axes = [axis for axis in axes if axis in still]
        if len(axes) == 1:
            return axes[0]
        if axes and (has_turned or channels not in axes):
            raise _undecided(shape)
        if axes:
            return channels
    if has_evidence:
        return still[0] if still is not None and len(still) == 1 else 1
    return _beside_space(shape, stretched())


def _beside_space(shape: Shape, others: Sequence[Shape]) -> int:
    """Return the axis that does not follow the inputs', or not their space."""
    for some in (others, others[1:]):
        still = _still(shape, some)
        if still is not None and len(still) == 1:
            return still[0]
    return 1


def _places(shape: Shape, returned: Shape, channels: int) -> list[int]:
    """Return the axes of a value on which the channels of a module may be.

    >>> _places((2, 96, 7, 7), (2, 7, 7, 96), channels=3)
    [1]
    >>> _places((2, 64, 7, 7), (2, 32, 7, 7), channels=1)
    [1]
    """
    width = returned[channels]
    axes = [axis for axis in range(1, len(shape)) if shape[axis] == width]
    if _is_whole(shape, returned):
        return axes
    if len(shape) != len(returned):
        return []
    if channels in axes:  # space was reduced, or enlarged
        return axes
    rest, own = list(shape), list(returned)
    del rest[channels], own[channels]
    return [channels] if rest == own else []  # several were joined


def _is_whole(shape: Shape, returned: Shape) -> bool:
    """Return whether a value may be what was returned, turned or cut anew."""
    if len(shape) == len(returned):
        return sorted(shape) == sorted(returned)
    return math.prod(shape) == math.prod(returned)


def _still(shape: Shape, others: Sequence[Shape]) -> list[int] | None:
    """Return the axes that no longer input makes longer; None if it makes none."""
    axes = range(1, len(shape))
    longer = {
        axis
        for other in others
        if len(other) == len(shape)
        for axis in axes
        if other[axis] != shape[axis]
    }
    return [axis for axis in axes if axis not in longer] if longer else None


def _undecided(shape: Shape) -> ValueError:
    msg = (
        f"the channels of a value of shape {shape} may be on several axes, and nothing "
        "shows which: give a callable `pooling`, such as lambda hidden, mask: "
        "hidden.mean((1, 2)) where they are last, or hidden.mean((2, 3)) where not."
    )
    return ValueError(msg)
