"""How fast work could be here: its arithmetic and its bytes at the measured rates.

The rate of arithmetic is that of `torch.mm` on the matrices of the model's own layers,
each the best of many: what is left for everything else to take is then plain.
"""

from collections import Counter
from collections.abc import Callable

import numpy as np
import torch
from _measure import Timing
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["Work", "copy_seconds", "work_of"]

Shape = tuple[int, int, int]  # rows, what is summed over, columns

_TRIES = 15
_LARGE_BYTES = 64 << 20


class Work:
    """The arithmetic of some forward passes, and the matrices it is done on."""

    def __init__(self, flops: int, shapes: Counter[Shape]) -> None:
        self.flops = flops
        self.shapes = shapes

    def seconds(self, timing: Timing, dtype: torch.dtype = torch.float32) -> float:
        """Give the time of all arithmetic at the rate of the matrices' products."""
        spent = sum(
            calls * _mm_seconds(shape, dtype, timing)
            for shape, calls in self.shapes.items()
        )
        done = sum(2 * m * k * n * calls for (m, k, n), calls in self.shapes.items())
        return self.flops * spent / done


def work_of(model: nn.Module, run: Callable[[], object]) -> Work:
    """Count what `run` asks of the linear and convolutional layers of `model`."""
    shapes: Counter[Shape] = Counter()

    def note(layer: nn.Module, _: object, out: torch.Tensor) -> None:
        if isinstance(layer, nn.Linear):
            shape = (layer.in_features, layer.out_features)
            shapes[(out.numel() // shape[1], *shape)] += 1
        else:
            channels, *window = layer.weight.shape[1:]
            n_out = out.shape[1]
            patch = channels * int(np.prod(window))
            shapes[(out.numel() // n_out, patch, n_out)] += 1

    handles = [
        layer.register_forward_hook(note)
        for layer in model.modules()
        if isinstance(layer, (nn.Linear, nn.Conv2d))
    ]
    try:
        # The counter knows no fused attention of the CPU, but the products it fuses.
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            run()
    finally:
        for handle in handles:
            handle.remove()
    return Work(counter.get_total_flops(), shapes)


def copy_seconds(n_bytes: int, timing: Timing) -> float:
    """Give the time to copy so many bytes, at the rate of a large plain copy."""
    source = np.ones(_LARGE_BYTES, np.uint8)
    target = np.ones_like(source)
    return (
        timing.best(lambda: np.copyto(target, source), of=_TRIES)
        * n_bytes
        / _LARGE_BYTES
    )


def _mm_seconds(shape: Shape, dtype: torch.dtype, timing: Timing) -> float:
    m, k, n = shape
    left, right = torch.randn(m, k).to(dtype), torch.randn(k, n).to(dtype)
    out = torch.empty(m, n, dtype=dtype)
    return timing.best(lambda: torch.mm(left, right, out=out), of=_TRIES)
