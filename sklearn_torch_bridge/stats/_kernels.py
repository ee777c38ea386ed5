"""Kernels by name, with the bandwidth that is estimated from rows."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from sklearn_torch_bridge.stats._check_embeddings import Doubles

__all__ = ["KERNELS", "Kernel", "check_kernel", "distances", "fit_kernel"]

Kernel = Callable[[Doubles, Doubles], Doubles]
"""Takes two blocks of rows, returns a similarity for each pair; symmetric."""

_NOISE = 4 * float(np.finfo(np.float64).eps)


def check_kernel(kernel: Any) -> None:
    """Check that `kernel` is the name of a kernel or a callable."""
    if callable(kernel) or (isinstance(kernel, str) and kernel in KERNELS):
        return
    known = ", ".join(map(repr, KERNELS))
    msg = f"`kernel` must be one of {known} or a callable, got {kernel!r}."
    raise ValueError(msg)


def fit_kernel(kernel: str | Kernel, sample: Doubles) -> tuple[Kernel, float | None]:
    """Return the kernel and its bandwidth, if it has one, estimated from `sample`."""
    if callable(kernel):
        return partial(_call_checked, kernel=kernel), None
    return KERNELS[kernel](sample)


def distances(A: Doubles, B: Doubles, *, squared: bool = False) -> Doubles:
    """Compute the distances of all pairs by one matrix product.

    What is as small as its rounding errors counts as 0.
    """
    squares_A, squares_B = (np.einsum("ij,ij->i", rows, rows) for rows in (A, B))
    found: Doubles = A @ B.T
    found *= -2
    found += squares_A[:, None]
    found += squares_B
    found[found <= _NOISE * (squares_A.max() + squares_B.max())] = 0.0
    if A is B:
        np.fill_diagonal(found, 0.0)
    return found if squared else np.sqrt(found, out=found)


def _call_checked(A: Doubles, B: Doubles, *, kernel: Kernel) -> Doubles:
    """Call a kernel of the user, check its result and return a copy of it."""
    found = np.array(kernel(A, B), dtype=np.float64)
    if found.shape != (len(A), len(B)) or not np.isfinite(found).all():
        msg = (
            "`kernel` must return finite values of shape (rows of the first block, "
            f"rows of the second) = ({len(A)}, {len(B)}), got shape {found.shape}."
        )
        raise ValueError(msg)
    return found


def _rbf(sample: Doubles) -> tuple[Kernel, float]:
    squares = distances(sample, sample, squared=True)
    pairs = squares[np.tri(len(sample), k=-1, dtype=bool)]
    apart = pairs[pairs > 0]
    if not apart.size:
        msg = (
            f"the bandwidth of `kernel`='rbf' needs rows that differ; the "
            f"{len(sample)} rows looked at are equal."
        )
        raise ValueError(msg)
    bandwidth = float(np.sqrt(np.median(apart, overwrite_input=True)))
    return partial(_gaussian, bandwidth=bandwidth), bandwidth


def _dot(A: Doubles, B: Doubles) -> Doubles:
    return A @ B.T


def _gaussian(A: Doubles, B: Doubles, *, bandwidth: float) -> Doubles:
    exponent = distances(A, B, squared=True)
    exponent /= -2 * bandwidth**2
    return np.exp(exponent, out=exponent)


KERNELS: dict[str, Callable[[Doubles], tuple[Kernel, float | None]]] = {
    "rbf": _rbf,
    "linear": lambda _sample: (_dot, None),
}
"""What the parameter `kernel` may name."""
