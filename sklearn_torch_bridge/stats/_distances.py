"""Distances computed from means and covariances."""

import warnings
from typing import Any

import numpy as np
from scipy.linalg import eigh, svdvals

from sklearn_torch_bridge.stats._check_embeddings import (
    Doubles,
    Floats,
    check_columns,
    check_varies,
    iter_blocks,
)
from sklearn_torch_bridge.stats._moments import column_means, factor_rows

__all__ = ["frechet_distance", "mahalanobis"]

_EPS = float(np.finfo(np.float64).eps)


def frechet_distance(X: Any, Y: Any) -> float:
    r"""Measure how far apart two sets of embeddings are, as FID does.

    Parameters
    ----------
    X, Y : array-like of shape (n_samples_X or n_samples_Y, n_features)
        The two sets, over the same columns. One embedding per row, at least two.

    Returns
    -------
    distance : float
        The squared distance, from 0, in squared units of the features.

    Raises
    ------
    ValueError
        If there are fewer than two rows, a value is not finite, or the columns differ.

    Notes
    -----
    The squared Fréchet (Wasserstein-2) distance between the normal distributions
    with the means :math:`\mu` and covariances :math:`\Sigma` of the rows [1]_, which
    is called FID on Inception features [2]_:

    .. math:: |\mu_X - \mu_Y|^2 + \operatorname{tr}\big(\Sigma_X + \Sigma_Y
              - 2 (\Sigma_X \Sigma_Y)^{1/2}\big)

    The last trace is the sum of the singular values of :math:`A B^T`, where
    :math:`A^T A = \Sigma_X` and :math:`B^T B = \Sigma_Y`. A set with no more rows
    than features is its own factor; of a larger one the covariance is factored with
    pivoting. So a covariance without full rank needs no offset and gives no imaginary
    parts: the value is that of the definition. (A variance below about 1e-13 of its
    column's cannot be distinguished from rounding, and counts as zero.)

    Unchanged by shifting or rotating both sets alike, by reordering rows, and by
    swapping the sets; scaling both by :math:`c` scales it by :math:`c^2`. Costs
    ``n_samples * n_features**2`` operations, and memory for two blocks and a few
    matrices of ``n_features**2``.

    It is biased: two samples of one distribution have a positive distance, which
    grows with ``n_features / n_samples``. Compare values of equal sample sizes only,
    with several times more rows than features. It compares only means and
    covariances. It is not a statistical test; use `mmd_test` for that.

    References
    ----------
    .. [1] D. C. Dowson and B. V. Landau, "The Fréchet distance between multivariate
       normal distributions", Journal of Multivariate Analysis 12, 1982, pp. 450-455.
    .. [2] M. Heusel et al., "GANs trained by a two time-scale update rule converge to
       a local Nash equilibrium", NeurIPS 2017.

    Examples
    --------
    >>> from sklearn_torch_bridge.stats import frechet_distance
    >>> X = [[0.0], [2.0]]  # mean 1, variance 2
    >>> round(frechet_distance(X, [[3.0], [5.0]]), 12)
    9.0
    """
    sides = check_columns(X, Y, min_rows=(2, 2))
    mean_X, mean_Y = map(column_means, sides)
    A, B = (
        factor_rows(Z, center=mean) / np.sqrt(len(Z) - 1)
        for Z, mean in zip(sides, (mean_X, mean_Y), strict=True)
    )
    shift, spread = mean_X - mean_Y, np.square(A).sum() + np.square(B).sum()
    return max(0.0, float(shift @ shift + spread - 2 * svdvals(A @ B.T).sum()))


def mahalanobis(X: Any, reference: Any) -> Doubles:
    r"""Measure how far each row is from a reference, in its own spread.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        The rows to measure.
    reference : array-like of shape (n_samples_reference, n_features)
        The rows that define what is usual, at least two, over the same columns.

    Returns
    -------
    distances : ndarray of shape (n_samples,)
        One distance per row (not squared), from 0, in float64.

    Raises
    ------
    ValueError
        If there are too few rows, a value is not finite, the columns differ, or all
        rows of `reference` are equal.

    Warns
    -----
    UserWarning
        If the covariance has no full rank even with shrinkage. The distances are then
        taken within the directions that `reference` varies in.

    Notes
    -----
    :math:`\sqrt{(x - \mu)^T \Sigma^{-1} (x - \mu)}`, where :math:`\Sigma` is the
    covariance shrunk towards a multiple of the identity by the factor of Ledoit and
    Wolf [1]_. So it can be inverted even with fewer rows than features. The estimate
    is that of scikit-learn's `LedoitWolf`, computed in float64, in blocks.

    Unchanged by shifting, scaling or rotating both sets alike, and by the order of the
    rows. Standardise columns of different units first: the shrinkage treats all alike.
    Costs ``n_samples_reference * n_features**2`` operations and an eigendecomposition.

    Not suitable for a `reference` of several clusters, whose middle may be empty, or
    for one with outliers, which widen the spread (see `sklearn.covariance.MinCovDet`).
    For normal rows and a large `reference` the squares follow about a chi-square
    distribution of n_features degrees of freedom.

    References
    ----------
    .. [1] O. Ledoit and M. Wolf, "A well-conditioned estimator for large-dimensional
       covariance matrices", Journal of Multivariate Analysis 88, 2004, pp. 365-411.

    Examples
    --------
    >>> from sklearn_torch_bridge.stats import mahalanobis
    >>> usual = [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]
    >>> mahalanobis([[0.0, 0.0], [3.0, 4.0]], usual).round(3)
    array([0.   , 7.071])
    """
    rows, usual = check_columns(X, reference, names=("X", "reference"), min_rows=(1, 2))
    check_varies("reference", usual)
    mean = column_means(usual)
    whiten = _whitener(_shrunk_covariance(usual, mean))
    blocks = (block @ whiten for block in iter_blocks(rows, center=mean))
    return np.concatenate([np.sqrt(np.square(block).sum(1)) for block in blocks])


def _shrunk_covariance(Z: Floats, mean: Doubles) -> Doubles:
    """Estimate a covariance as scikit-learn's `LedoitWolf` does, in one pass."""
    n_samples, n_features = Z.shape
    covariance = np.zeros((n_features, n_features))
    fourth = 0.0
    for block in iter_blocks(Z, center=mean):
        covariance += block.T @ block
        fourth += np.square(np.square(block).sum(1)).sum()
    covariance /= n_samples
    variance = covariance.trace() / n_features
    distance = np.square(covariance - variance * np.eye(n_features)).sum()
    noise = (fourth / n_samples - np.square(covariance).sum()) / n_samples
    shrinkage = min(1.0, max(0.0, noise / distance)) if distance > 0 else 0.0
    covariance *= 1 - shrinkage
    covariance.flat[:: n_features + 1] += shrinkage * variance
    return covariance


def _whitener(covariance: Doubles) -> Doubles:
    """Return the matrix that makes rows of that covariance uncorrelated."""
    values, vectors = eigh(covariance)
    kept = values > len(values) * _EPS * values[-1]
    n_features, rank = len(values), int(kept.sum())
    if rank < n_features:
        msg = (
            f"the covariance of `reference` has rank {rank} of {n_features} even with "
            "shrinkage: distances are taken within the directions it varies in, and "
            "what a row has outside of them is left out. Give more rows, or reduce "
            "the columns first, by PCA for instance."
        )
        warnings.warn(msg, UserWarning, stacklevel=3)
    whiten: Doubles = vectors[:, kept] / np.sqrt(values[kept])
    return whiten
