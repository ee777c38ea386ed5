"""How much the vector of a row depends on the other rows of its batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import _safe_indexing, check_random_state

from sklearn_torch_bridge._checks import check_positive_int
from sklearn_torch_bridge._estimators import TorchFeatureExtractor

__all__ = ["BatchSensitivity", "batch_sensitivity"]

_SIZES = (2, 8, 32)


# Its parameters are the fields, which numpydoc cannot read off the source.
@dataclass(frozen=True, eq=False)
class BatchSensitivity:  # numpydoc ignore=PR02
    """How much the vector of a row depends on the other rows of its batch.

    Parameters
    ----------
    batch_sizes : tuple of int
        The sizes that were compared with single rows.
    difference : ndarray of shape (n_batch_sizes,)
        For each size the largest difference of any row. The difference of a row is that
        of the value that changes most, divided by the largest value of the row alone.
        Rounding of float32 is around 1e-7 to 1e-5.
    worst_row : ndarray of shape (n_batch_sizes,)
        The row of `X` with this difference.
    is_exact : bool
        Whether all vectors were equal to the last bit.
    """

    batch_sizes: tuple[int, ...]
    difference: NDArray[np.float64]
    worst_row: NDArray[np.intp]
    is_exact: bool

    @property
    def largest(self) -> float:
        """Return the largest difference of all sizes."""
        return float(self.difference.max())


def batch_sensitivity(
    extractor: TorchFeatureExtractor,
    X: Any,
    *,
    batch_sizes: Sequence[int] = _SIZES,
    random_state: Any = None,
) -> BatchSensitivity:
    """Measure how much the other rows of a batch change the vector of a row.

    Each row goes through the model alone, and in batches of each size in a random
    order. Differences far above rounding mean that rows of a batch influence each
    other (batch normalisation outside eval mode, routing with a capacity, padding
    without a mask): such rows are not independent, and no cache can be right.

    Parameters
    ----------
    extractor : TorchFeatureExtractor
        Its `batch_size` and `cache` are not used. It is not changed.
    X : array-like or sequence of length n_samples
        Some dozens of rows that differ, for example in length.
    batch_sizes : sequence of int, default=(2, 8, 32)
        The batch sizes to compare.
    random_state : int, RandomState instance or None, default=None
        For the order of rows.

    Returns
    -------
    sensitivity : BatchSensitivity
        The largest difference for each size.

    Raises
    ------
    ValueError
        If a batch size is not positive, or `X` has fewer than two rows.

    Notes
    -----
    Costs one pass over the rows one by one, and one for each batch size.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sklearn_torch_bridge import TorchFeatureExtractor
    >>> from sklearn_torch_bridge.inspection import batch_sensitivity
    >>> X = np.arange(12.0).reshape(6, 2)
    >>> batch_sensitivity(TorchFeatureExtractor(torch.nn.ReLU()), X).largest
    0.0
    """
    sizes = tuple(check_positive_int("batch_sizes", size) for size in batch_sizes)
    plain = clone(extractor).set_params(cache=None).set_output(transform="default")
    alone = _as_vectors(plain.set_params(batch_size=1).transform(X))
    if len(alone) < 2:  # noqa: PLR2004 - a row beside another
        msg = f"`X` must have at least two rows, got {len(alone)}."
        raise ValueError(msg)
    order = check_random_state(random_state).permutation(len(alone))
    shuffled = _take(X, order)
    scale = np.maximum(np.abs(alone).max(axis=1), np.finfo(np.float32).tiny)
    apart = np.empty((len(sizes), len(alone)))
    for size, found in zip(sizes, apart, strict=True):
        together = _as_vectors(plain.set_params(batch_size=size).transform(shuffled))
        found[order] = np.abs(together - alone[order]).max(axis=1) / scale[order]
    difference, worst = apart.max(axis=1), apart.argmax(axis=1)
    return BatchSensitivity(sizes, difference, worst, not difference.any())


def _as_vectors(Z: NDArray[Any]) -> NDArray[np.float64]:
    """Put the values of each row side by side; of shorter rows, zeros behind them."""
    if Z.dtype == object:
        longest = max((entry.size for entry in Z), default=0)
        return np.array(
            [np.pad(entry.ravel(), (0, longest - entry.size)) for entry in Z]
        )
    return Z.reshape(len(Z), -1).astype(np.float64)


def _take(X: Any, rows: NDArray[np.intp]) -> Any:
    """Return these rows of `X`, in this order."""
    if isinstance(X, Mapping):
        return {name: _take(column, rows) for name, column in X.items()}
    return X[rows] if isinstance(X, torch.Tensor) else _safe_indexing(X, rows)
