"""Means and covariances, summed in blocks, and factors of them."""

import numpy as np
from scipy.linalg import lapack

from sklearn_torch_bridge.stats._check_embeddings import Doubles, Floats, iter_blocks

__all__ = ["column_means", "factor_rows", "factor_scatter"]

_EPS = float(np.finfo(np.float64).eps)


def column_means(Z: Floats) -> Doubles:
    """Average each column, in float64."""
    means: Doubles = Z.mean(axis=0, dtype=np.float64)
    return means


def factor_rows(Z: Floats, *, center: Doubles | float) -> Doubles:
    """Return a small ``A`` whose ``A.T @ A`` is that of the rows minus `center`."""
    n_samples, n_features = Z.shape
    if n_samples <= n_features:
        (rows,) = iter_blocks(Z, center=center, rows=n_samples)
        return rows
    scatter = np.zeros((n_features, n_features))
    for block in iter_blocks(Z, center=center):
        scatter += block.T @ block
    return factor_scatter(scatter, n_samples=n_samples)


def factor_scatter(scatter: Doubles, *, n_samples: int) -> Doubles:
    """Compute the pivoted Cholesky factor, of any rank, of a sum of products.

    >>> A = factor_scatter(np.array([[4.0, 4.0], [4.0, 4.0]]), n_samples=2)
    >>> A, A.T @ A
    (array([[2., 2.]]), array([[4., 4.],
           [4., 4.]]))
    """
    scale = np.sqrt(scatter.diagonal())
    divisor = np.where(scale > 0, scale, 1.0)
    # Scaled first, so that what is dropped as noise is small relative to its column.
    upper, pivots, rank, _ = lapack.dpstrf(
        scatter / divisor / divisor[:, None],
        tol=_EPS * (len(scale) + np.sqrt(n_samples)),
    )
    factor = np.empty((rank, len(scale)))
    factor[:, pivots - 1] = np.triu(upper[:rank])
    return factor * scale
