"""How alike two embeddings of the same rows are."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist
from scipy.stats import kendalltau, pearsonr, spearmanr

from sklearn_torch_bridge._checks import one_of
from sklearn_torch_bridge.stats._check_embeddings import (
    Doubles,
    Floats,
    block_rows,
    check_paired,
    iter_blocks,
    make_generator,
    sample_rows,
)
from sklearn_torch_bridge.stats._kernels import Kernel, check_kernel, fit_kernel
from sklearn_torch_bridge.stats._moments import column_means

__all__ = ["RSAResult", "cka", "rsa"]

_BANDWIDTH_ROWS = 2_000
_GRAM_ROWS = 1_500
_TINY = 1e-12
_PAIRS = ((0, 0), (1, 1), (0, 1))
_METRICS = ("euclidean", "sqeuclidean", "cityblock", "cosine", "correlation")
_CORRELATIONS: dict[str, Callable[[Doubles, Doubles], Any]] = {
    "spearman": spearmanr,
    "pearson": pearsonr,
    "kendall": kendalltau,
}

Product = tuple[float, float]
"""The sum of products of two similarity matrices, centred and before centring."""


# Its parameters are the fields, which numpydoc cannot read off the source.
@dataclass(frozen=True)
class RSAResult:  # numpydoc ignore=PR02
    """Result of a comparison of distances; ``float(result)`` is the statistic.

    Parameters
    ----------
    statistic : float
        The correlation of the distances, from -1 to 1.
    metric, method : str
        How rows were compared within `X` and within `Y`, and how their distances.
    n_rows : int
        Rows that were used.
    is_subsample : bool
        Whether those are fewer rows than were given, because of `max_rows`.
    """

    statistic: float
    metric: str
    method: str
    n_rows: int
    is_subsample: bool

    def __float__(self) -> float:
        return self.statistic


def cka(
    X: Any, Y: Any, *, kernel: str | Kernel = "linear", debiased: bool = False
) -> float:
    r"""Measure how alike two embeddings of the same rows are (CKA).

    Parameters
    ----------
    X, Y : array-like of shape (n_samples, n_features_X or n_features_Y)
        Two embeddings of the same rows, in the same order: of two layers, or models.
    kernel : {"linear", "rbf"} or callable, default="linear"
        How rows are compared within `X` and within `Y`. The bandwidth of ``"rbf"`` is
        the root of the median squared distance of the rows (of 2,000 of them, drawn
        with a fixed seed, if there are more). A callable takes two blocks of rows and
        returns a similarity for each pair.
    debiased : bool, default=False
        Remove the bias that raises the value if there are few rows compared with
        features. Needs four rows; the value may be below zero.

    Returns
    -------
    similarity : float
        From 0 to 1. It is 1 if they differ only by a rotation, a shift and a scale.

    Raises
    ------
    ValueError
        If the rows differ in number, are too few, all equal, or not finite.

    Notes
    -----
    Centered kernel alignment [1]_: the Hilbert-Schmidt independence criterion of the
    two matrices of similarities, divided by the root of the product of each one's own.
    With the linear kernel and centred rows it is

    .. math:: \frac{\|Y^T X\|_F^2}{\|X^T X\|_F \|Y^T Y\|_F}

    With `debiased` the criterion is estimated without bias [2]_, as a U-statistic.

    Unchanged by rotating, shifting or scaling `X` or `Y` (for named kernels), by the
    order of the rows if it is the same in both, and by swapping them; not by other
    linear maps. ``"linear"`` costs ``n_samples * (n_features_X + n_features_Y)**2``
    operations; other kernels, and few rows, ``n_samples**2 * (n_features_X +
    n_features_Y)``: two minutes for 50,000 rows of 768 features on two cores. It needs
    memory for a few blocks, or a few matrices of ``n_features**2``.

    Without `debiased`, the value of unrelated embeddings approaches 1 if there are
    more features than rows; compare with the value for shuffled rows. A few directions
    of large variance, common in transformers, can determine the linear value unless the
    columns are standardised. At a high value classifiers may still perform differently.

    References
    ----------
    .. [1] S. Kornblith et al., "Similarity of neural network representations
       revisited", ICML 2019, https://arxiv.org/abs/1905.00414.
    .. [2] L. Song et al., "Feature selection via dependence maximization", Journal of
       Machine Learning Research 13, 2012, pp. 1393-1434.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_torch_bridge.stats import cka
    >>> X = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [5.0, 3.0]])
    >>> turned = X[:, ::-1] * [1, -1]
    >>> round(cka(X, 3 * turned + 7), 12)
    1.0
    >>> round(cka(X, X[:, :1] ** 2), 2)
    0.93
    """
    check_kernel(kernel)
    first, second = check_paired(X, Y, min_rows=4 if debiased else 2)
    if kernel == "linear" and len(first) >= first.shape[1] + second.shape[1]:
        products = _by_features(first, second, debiased=debiased)
    else:
        products = _by_rows(first, second, kernel, debiased=debiased)
    (xx, raw_xx), (yy, raw_yy), (xy, _) = products
    for name, own, raw in (("X", xx, raw_xx), ("Y", yy, raw_yy)):
        if own <= _TINY * raw:
            msg = (
                f"`{name}` must have rows that differ in how alike they are; to this "
                "`kernel` all pairs are the same, so that there is nothing to compare."
            )
            raise ValueError(msg)
    return min(1.0, float(xy / (np.sqrt(xx) * np.sqrt(yy))))


def rsa(
    X: Any,
    Y: Any,
    *,
    metric: str = "euclidean",
    method: str = "spearman",
    max_rows: int | None = 2_000,
    random_state: Any = 0,
) -> RSAResult:
    r"""Correlate the distances between rows in two embeddings (RSA).

    Parameters
    ----------
    X, Y : array-like of shape (n_samples, n_features_X or n_features_Y)
        Two embeddings of the same rows, at least three, in the same order.
    metric : {"euclidean", "sqeuclidean", "cityblock", "cosine", "correlation"}, \
            default="euclidean"
        How rows are compared, as `scipy.spatial.distance` defines it.
    method : {"spearman", "pearson", "kendall"}, default="spearman"
        How the distances are correlated.
    max_rows : int or None, default=2000
        Rows to use, drawn at random from a larger set. None uses all.
    random_state : None, int, Generator or RandomState, default=0
        For drawing the rows.

    Returns
    -------
    result : RSAResult
        With `statistic` and what was computed.

    Raises
    ------
    ValueError
        If the rows differ in number, are too few, or not finite, or if the distances
        are undefined (the cosine of a row of zeros) or all equal.

    Notes
    -----
    Representational similarity analysis [1]_: the correlation of the distances of all
    pairs of rows in `X` with those in `Y`, where `cka` compares products.

    Unchanged by the order of rows if it is the same in both and by swapping `X` and
    `Y`; with ``"euclidean"`` by rotating, shifting or scaling either. ``"spearman"``
    and ``"kendall"`` are unchanged by any increasing function of the distances, so
    that ``"euclidean"`` and ``"sqeuclidean"`` agree. Costs ``n_rows**2 / 2`` distances,
    each of ``n_features`` operations, their ranks, and about ``40 * n_rows**2`` bytes:
    0.2 GB at the default `max_rows`.

    Pairs share rows, so the p-value of a correlation would be wrong; none is returned.
    Compare with the value for shuffled rows. Distances in many dimensions are all
    about equal, which lowers the value.

    References
    ----------
    .. [1] N. Kriegeskorte, M. Mur and P. Bandettini, "Representational similarity
       analysis", Frontiers in Systems Neuroscience 2:4, 2008.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_torch_bridge.stats import rsa
    >>> X = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [5.0, 3.0]])
    >>> round(rsa(X, X @ [[0, 2], [-2, 0]]).statistic, 12)
    1.0
    """
    one_of(*_METRICS)("metric", metric)
    one_of(*_CORRELATIONS)("method", method)
    first, second = check_paired(X, Y, min_rows=3)
    rows = sample_rows(len(first), max_rows, make_generator(random_state))
    taken = first[rows], second[rows]
    pairs = [_pair_distances(*side, metric) for side in zip("XY", taken, strict=True)]
    return RSAResult(
        statistic=float(_CORRELATIONS[method](*pairs).statistic),
        metric=metric,
        method=method,
        n_rows=len(taken[0]),
        is_subsample=len(taken[0]) < len(first),
    )


def _pair_distances(name: str, Z: Floats, metric: str) -> Doubles:
    pairs: Doubles = pdist(Z, metric)
    if not np.isfinite(pairs).all():
        row = "zeros" if metric == "cosine" else "equal values"
        msg = (
            f"`metric`={metric!r} is undefined for `{name}`, which has a row of {row}."
        )
        raise ValueError(msg)
    if np.ptp(pairs) <= _TINY * pairs.max():
        msg = f"`{name}` must have rows at different distances; all are {pairs[0]:.4g}."
        raise ValueError(msg)
    return pairs


def _similarity_blocks(
    Z: Floats, kernel: str | Kernel
) -> Callable[[slice, slice], Doubles]:
    """Return what computes a block of the similarity matrix of all rows."""
    # Named kernels ignore a shift; near the mean they round least.
    center = 0.0 if callable(kernel) else column_means(Z)

    def read(rows: NDArray[np.intp] | slice) -> Doubles:
        return np.subtract(Z[rows], center, dtype=np.float64)

    sample = read(sample_rows(len(Z), _BANDWIDTH_ROWS, make_generator(0)))
    similar, _ = fit_kernel(kernel, sample)
    return lambda i, j: similar(read(i), read(j))


def _by_rows(
    X: Floats, Y: Floats, kernel: str | Kernel, *, debiased: bool
) -> Iterator[Product]:
    """Sum over all pairs of rows, in blocks of the upper triangle."""
    sides = [_similarity_blocks(Z, kernel) for Z in (X, Y)]
    products = dict.fromkeys(_PAIRS, 0.0)
    sums = np.zeros((2, len(X)))
    step = min(_GRAM_ROWS, block_rows(X), block_rows(Y))
    slices = [slice(start, start + step) for start in range(0, len(X), step)]
    for i, j in combinations_with_replacement(slices, 2):
        blocks = [similarities(i, j) for similarities in sides]
        for block, sum_ in zip(blocks, sums, strict=True):
            if i == j and debiased:
                np.fill_diagonal(block, 0.0)
            sum_[i] += block.sum(1)
            if i != j:
                sum_[j] += block.sum(0)
        for a, b in _PAIRS:
            times = 1 if i == j else 2  # the lower triangle is the same
            products[a, b] += times * float(np.vdot(blocks[a], blocks[b]))
    return (
        _centred(products[a, b], sums[a], sums[b], debiased=debiased) for a, b in _PAIRS
    )


def _by_features(X: Floats, Y: Floats, *, debiased: bool) -> Iterator[Product]:
    """Compute the same sums for the linear kernel, without forming any pair."""
    widths = X.shape[1], Y.shape[1]
    crosses = {(a, b): np.zeros((widths[a], widths[b])) for a, b in _PAIRS}
    norms: list[list[Doubles]] = []
    step = min(block_rows(X), block_rows(Y))
    sides = (iter_blocks(Z, center=column_means(Z), rows=step) for Z in (X, Y))
    for blocks in zip(*sides, strict=True):
        for a, b in _PAIRS:
            crosses[a, b] += blocks[a].T @ blocks[b]
        norms.append([np.einsum("ij,ij->i", block, block) for block in blocks])
    diagonals = [np.concatenate(own) for own in zip(*norms, strict=True)]
    for (a, b), cross in crosses.items():
        product = float(np.square(cross).sum())
        if debiased:
            # The sum of each row of centred similarities, its diagonal included, is 0.
            product -= float(diagonals[a] @ diagonals[b])
            yield _centred(product, -diagonals[a], -diagonals[b], debiased=True)
        else:
            yield product, product


def _centred(
    product: float, sums_X: Doubles, sums_Y: Doubles, *, debiased: bool
) -> Product:
    """Compute the product after centring from that before and the row sums."""
    n = len(sums_X)
    once, twice = (n - 2, (n - 1) * (n - 2)) if debiased else (n, n * n)
    shared = float(sums_X @ sums_Y) * 2 / once
    return product - shared + float(sums_X.sum() * sums_Y.sum()) / twice, product
