"""The first batch of a model that lacks weights, with attention that shows it.

What no file held is NaN, so that it shows in what depends on it; but the fused kernels
of attention give zeros for NaN (torch 2.13 on a CPU), where plain products do not.
"""

import copy
from collections.abc import Callable
from contextlib import nullcontext

from torch.nn.attention import SDPBackend, sdpa_kernel

from sklearn_torch_bridge._types import Inputs

__all__ = ["first_by", "first_plainly"]

Run = Callable[[Inputs], None]


def first_plainly(run: Run) -> Run:
    """Return a function that runs batches, the first with attention by products."""
    left = [SDPBackend.MATH]

    def call(inputs: Inputs) -> None:
        with sdpa_kernel(left) if left else nullcontext():
            run(inputs)
        left.clear()

    return call


def first_by(look: Run, run: Run) -> Run:
    """Return a function that runs batches, the first of them by `look` before."""
    left = [look]

    def call(inputs: Inputs) -> None:
        if left:
            left[0](copy.deepcopy(inputs))
            left.clear()
        run(inputs)

    return call
