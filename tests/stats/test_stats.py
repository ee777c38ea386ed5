"""Each number against an independent route, its invariances, and its errors.

Routes: closed forms, SciPy's and scikit-learn's own functions, the formula of
torchmetrics' FID, thingsvision's CKA and RSA (loaded file by file, since the package
pins an old NumPy), and published definitions written down here as loops.
"""

import importlib
import importlib.util
import sys
from itertools import combinations
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import sqrtm, svdvals
from scipy.spatial.distance import cdist, pdist
from scipy.stats import energy_distance, entropy, ks_2samp, ortho_group, spearmanr
from sklearn.covariance import LedoitWolf
from sklearn.metrics.pairwise import rbf_kernel

from sklearn_torch_bridge.stats import (
    _checked_embeddings,
    _kernels,
    _moments,
    _similarity,
    cka,
    effective_rank,
    energy_test,
    frechet_distance,
    intrinsic_dimension,
    ks_drift,
    mahalanobis,
    mmd_test,
    rsa,
)

SAME_COLUMNS = {
    "frechet_distance": frechet_distance,
    "mahalanobis": mahalanobis,
    "mmd_test": lambda X, Y: list(mmd_test(X, Y, n_resamples=49, random_state=0)),
    "energy_test": lambda X, Y: list(energy_test(X, Y, n_resamples=49, random_state=0)),
    "ks_drift": lambda X, Y: list(ks_drift(X, Y)),
}
SAME_ROWS = {
    "cka": cka,
    "cka, debiased": lambda X, Y: cka(X, Y, debiased=True),
    "cka, rbf": lambda X, Y: cka(X, Y, kernel="rbf"),
    "rsa": lambda X, Y: float(rsa(X, Y)),
}
ALONE = {
    "effective_rank": lambda X, _Y: effective_rank(X),
    "intrinsic_dimension": lambda X, _Y: intrinsic_dimension(X),
}
ALL = SAME_COLUMNS | SAME_ROWS | ALONE
SEEDS = st.integers(0, 2**16)


def rows(seed=0, n_samples=40, n_features=5, shift=0.0):
    """Draw rows with correlated columns of different scale."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(n_features, n_features))
    return rng.normal(size=(n_samples, n_features)) @ mix + shift


def rotation(seed, n_features):
    if n_features == 1:
        return np.ones((1, 1))
    return ortho_group.rvs(n_features, random_state=seed)


def over(function):
    return pytest.mark.parametrize("name", function)


@pytest.fixture
def thingsvision(monkeypatch):
    """Import a file of thingsvision by itself."""
    (folder,) = importlib.util.find_spec("thingsvision").submodule_search_locations
    # Its decorator compiles one function, and is not needed for what that computes.
    numba = SimpleNamespace(njit=lambda **_: lambda f: f, prange=range)
    monkeypatch.setitem(sys.modules, "numba", numba)

    def load(part, name):
        package = ModuleType(f"alone_{part}")
        package.__path__ = [str(Path(folder) / "core" / part)]
        monkeypatch.setitem(sys.modules, package.__name__, package)
        return importlib.import_module(f"{package.__name__}.{name}")

    return load


class TestFrechetDistance:
    def test_closed_form_in_one_dimension(self):
        X, Y = rows(1, 30, 1), rows(2, 50, 1, shift=3)
        means = (X.mean() - Y.mean()) ** 2
        spreads = (X.std(ddof=1) - Y.std(ddof=1)) ** 2
        assert frechet_distance(X, Y) == pytest.approx(means + spreads, rel=1e-12)

    @pytest.mark.parametrize("n_samples", [50, 400], ids=["few rows", "many rows"])
    def test_closed_form_of_covariances_that_commute(self, n_samples):
        """A rotated X scaled along its axes: the sum of squared differences."""
        turn, factors = rotation(0, 60), np.linspace(0.5, 2, 60)
        X = rows(1, n_samples, 60)
        X = X @ np.linalg.eigh(np.cov(X.T))[1]  # uncorrelated
        expected = np.square((1 - factors) * X.std(0, ddof=1)).sum()
        centred = X - X.mean(0)
        found = frechet_distance(centred @ turn, centred * factors @ turn)
        assert found == pytest.approx(expected, rel=1e-10)

    def test_equals_the_matrix_square_root(self):
        X, Y = rows(1, 60, 6), rows(2, 80, 6, shift=0.3)
        S, T = np.cov(X.T), np.cov(Y.T)
        shift = np.square(X.mean(0) - Y.mean(0)).sum()
        expected = shift + np.trace(S + T - 2 * sqrtm(S @ T).real)
        assert frechet_distance(X, Y) == pytest.approx(expected, rel=1e-9)

    def test_equals_torchmetrics(self):
        from torchmetrics.image.fid import FrechetInceptionDistance

        X, Y = rows(1, 200, 8), rows(2, 300, 8, shift=0.1)
        identity = torch.nn.Identity()
        identity.num_features = 8
        metric = FrechetInceptionDistance(feature=identity)
        metric.update(torch.tensor(X), real=True)
        metric.update(torch.tensor(Y), real=False)
        assert frechet_distance(X, Y) == pytest.approx(float(metric.compute()), 1e-9)

    @pytest.mark.parametrize("n_samples", [8, 300], ids=["few rows", "many rows"])
    def test_a_covariance_without_full_rank_needs_no_warning(self, n_samples):
        """Five dimensions, turned into forty: the distance stays as it is."""
        X, Y = rows(1, n_samples), rows(2, n_samples, shift=0.5)
        into = rotation(0, 40)[:5]
        expected = frechet_distance(X, Y)
        assert frechet_distance(X @ into, Y @ into) == pytest.approx(expected, rel=1e-9)

    def test_few_rows_against_many(self):
        X, Y = rows(1, 10, 30), rows(2, 500, 30)
        twice = np.concatenate([X - X.mean(0)] * 30)  # the covariance of few rows
        twice *= np.sqrt((len(twice) - 1) / 30 / 9)
        expected = frechet_distance(twice + X.mean(0), Y)
        # The covariance of `twice` has rank 9 but for rounding, whose root shows.
        assert frechet_distance(X, Y) == pytest.approx(expected, rel=1e-7)

    def test_a_column_of_small_scale_counts(self):
        """What is 1e-9 wide in one set and 1 in the other takes 4e-9 off."""
        X = rows(1, 500, 2)
        axes = np.linalg.svd(X - X.mean(0), full_matrices=False)[0] * np.sqrt(499)
        found = frechet_distance(axes * [1, 1e-9], axes * [1e-9, 1])
        assert 2 - found == pytest.approx(2 * 2 * 1e-9, rel=1e-5)

    def test_constant_rows_have_only_a_mean(self):
        X, Y = np.full((6, 2), 0.1), np.full((4, 2), 0.4)
        assert frechet_distance(X, Y) == pytest.approx(2 * 0.09)
        Y = rows(1, 20, 2)
        expected = np.square(0.1 - Y.mean(0)).sum() + np.cov(Y.T).trace()
        assert frechet_distance(X, Y) == pytest.approx(expected)

    @given(seed=SEEDS, n_samples=st.integers(2, 30), n_features=st.integers(1, 12))
    def test_invariances(self, seed, n_samples, n_features):
        X = rows(seed, n_samples, n_features)
        Y = rows(seed + 1, n_samples + 3, n_features, shift=1)
        turn, scale = rotation(seed, n_features), 3.0
        expected = frechet_distance(X, Y)
        near = pytest.approx(expected, rel=1e-7, abs=1e-9)
        assert frechet_distance(Y, X) == near
        assert frechet_distance(X[::-1], Y) == near
        assert frechet_distance(X @ (turn * scale) + 5, Y @ (turn * scale) + 5) == (
            pytest.approx(scale**2 * expected, rel=1e-7, abs=1e-8)
        )
        assert 0 <= frechet_distance(X, X) <= 1e-10 * np.square(X).sum()


class TestMahalanobis:
    @pytest.mark.parametrize("n_samples", [5, 200], ids=["few rows", "many rows"])
    def test_equals_scikit_learn_and_scipy(self, n_samples):
        X, reference = rows(1, 30, 20), rows(2, n_samples, 20)
        fitted = LedoitWolf().fit(reference)
        found = mahalanobis(X, reference)
        np.testing.assert_allclose(found**2, fitted.mahalanobis(X), rtol=1e-9)
        center = fitted.location_[None]
        expected = cdist(X, center, "mahalanobis", VI=fitted.precision_).ravel()
        np.testing.assert_allclose(found, expected, rtol=1e-9)

    def test_one_feature_is_the_z_score(self):
        X, reference = rows(1, 30, 1), rows(2, 50, 1)
        expected = np.abs(X[:, 0] - reference.mean()) / reference.std()
        np.testing.assert_allclose(mahalanobis(X, reference), expected, rtol=1e-12)

    def test_an_outlier_is_far(self):
        reference = rows(2, 100, 20)
        X = np.concatenate([rows(2, 10, 20), [50 * np.ones(20)]])
        assert mahalanobis(X, reference).argmax() == 10

    def test_a_constant_column_is_no_trouble(self):
        reference = np.column_stack([rows(1, 50, 3), np.full(50, 0.1)])
        found = mahalanobis(reference, reference)
        expected = LedoitWolf().fit(reference).mahalanobis(reference)
        np.testing.assert_allclose(found**2, expected, rtol=1e-9)

    def test_two_rows_have_no_covariance_of_full_rank_and_a_warning_says_so(self):
        with pytest.warns(UserWarning, match=r"rank 1 of 2 even with shrinkage"):
            found = mahalanobis([[3.0, 0.0], [3.0, 9.0]], [[-1.0, 0.0], [1.0, 0.0]])
        np.testing.assert_allclose(found, [3.0, 3.0])

    def test_what_rounding_leaves_beside_two_rows_is_no_direction(self):
        pair = rows(1, 2, 30)
        with pytest.warns(UserWarning, match=r"rank 1 of 30 even with shrinkage"):
            found = mahalanobis(pair, pair)
        np.testing.assert_allclose(found, [1.0, 1.0])

    def test_a_shrinkage_beyond_all_of_it_is_all_of_it(self):
        """Rows whose covariance is nearer to the identity than their noise is."""
        X, reference = rows(1, 30), np.random.default_rng(5).normal(size=(12, 5))
        fitted = LedoitWolf().fit(reference)
        assert fitted.shrinkage_ == 1
        found = mahalanobis(X, reference)
        np.testing.assert_allclose(found**2, fitted.mahalanobis(X), rtol=1e-9)

    def test_a_constant_reference_is_an_error(self):
        with pytest.raises(ValueError, match=r"`reference` must have rows that differ"):
            mahalanobis(rows(), np.ones((9, 5)))

    @given(seed=SEEDS, n_samples=st.integers(4, 30), n_features=st.integers(1, 12))
    def test_invariances(self, seed, n_samples, n_features):
        X, reference = (
            rows(seed, 7, n_features),
            rows(seed + 1, n_samples, n_features, 1),
        )
        turn = 3 * rotation(seed, n_features)
        expected = mahalanobis(X, reference)
        moved = mahalanobis(X @ turn + 5, reference @ turn + 5)
        np.testing.assert_allclose(moved, expected, rtol=1e-6)
        np.testing.assert_allclose(
            mahalanobis(X[::-1], reference[::-1]), expected[::-1], rtol=1e-9
        )


def slow_mmd(X, Y, similar):
    """Average over pairs, as in Gretton et al. 2012, lemma 6."""
    m, n = len(X), len(Y)
    xx = sum(similar(X[i], X[j]) for i in range(m) for j in range(m) if i != j)
    yy = sum(similar(Y[i], Y[j]) for i in range(n) for j in range(n) if i != j)
    xy = sum(similar(x, y) for x in X for y in Y)
    return xx / (m * (m - 1)) + yy / (n * (n - 1)) - 2 * xy / (m * n)


def slow_energy(X, Y):
    return 2 * cdist(X, Y).mean() - cdist(X, X).mean() - cdist(Y, Y).mean()


class TestTwoSampleTests:
    def test_mmd_with_rbf_is_the_definition(self):
        X, Y = rows(1, 12), rows(2, 9, shift=1)
        squares = pdist(np.concatenate([X, Y]), "sqeuclidean")
        bandwidth = np.sqrt(np.median(squares))
        found = mmd_test(X, Y, random_state=0)
        assert found.bandwidth == pytest.approx(bandwidth, rel=1e-12)
        expected = slow_mmd(
            X, Y, lambda x, y: np.exp(-np.square(x - y).sum() / 2 / bandwidth**2)
        )
        assert found.statistic == pytest.approx(expected, rel=1e-10)

    def test_linear_mmd_is_the_distance_of_the_means(self):
        X, Y = rows(1, 12), rows(2, 9, shift=1)
        found = mmd_test(X, Y, kernel="linear", random_state=0)
        expected = slow_mmd(X, Y, np.dot)
        assert found.statistic == pytest.approx(expected, rel=1e-10)
        noise = np.cov(X.T).trace() / 12 + np.cov(Y.T).trace() / 9
        means = np.square(X.mean(0) - Y.mean(0)).sum()
        assert found.statistic == pytest.approx(means - noise, rel=1e-10)
        assert found.bandwidth is None

    def test_a_callable_is_given_the_rows_as_they_are(self):
        X, Y = rows(1, 12), rows(2, 9, shift=1)

        def kernel(A, B):
            return (1 + A @ B.T) ** 2

        found = mmd_test(X, Y, kernel=kernel, random_state=0)
        expected = slow_mmd(X, Y, lambda x, y: (1 + x @ y) ** 2)
        assert found.statistic == pytest.approx(expected, rel=1e-10)

    def test_what_a_callable_returns_is_not_written_to(self):
        X, Y = rows(1, 12), rows(2, 9)
        kept = rbf_kernel(np.concatenate([X, Y]))
        kept.flags.writeable = False
        assert mmd_test(X, Y, kernel=lambda *_: kept, random_state=0).pvalue > 0
        assert kept[0, 0] == 1

    def test_energy_is_the_definition(self):
        X, Y = rows(1, 12), rows(2, 9, shift=1)
        found = energy_test(X, Y, random_state=0)
        assert found.statistic == pytest.approx(slow_energy(X, Y), rel=1e-10)

    def test_energy_of_one_feature_is_scipys_squared(self):
        X, Y = rows(1, 30, 1), rows(2, 40, 1)
        expected = energy_distance(X.ravel(), Y.ravel()) ** 2
        found = energy_test(X, Y, random_state=0).statistic
        assert found == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize("far", [0, 1e6], ids=["at 0", "far from 0"])
    def test_few_rows_are_permuted_in_every_way(self, far):
        X, Y = rows(1, 4), rows(2, 5, shift=1)
        pooled = np.concatenate([X, Y])
        splits = [
            (pooled[list(c)], np.delete(pooled, c, 0))
            for c in combinations(range(9), 4)
        ]
        observed = slow_energy(X, Y)
        reached = [slow_energy(*split) >= observed - 1e-12 for split in splits]
        found = energy_test(X + far, Y + far)
        assert found.n_resamples == len(splits) == 126
        assert found.pvalue == pytest.approx(np.mean(reached))

    @pytest.mark.parametrize("test", [mmd_test, energy_test])
    def test_equal_rows_are_not_told_apart(self, test):
        X = np.repeat(rows(1, 6), 2, axis=0)
        assert test(X[::2], X[1::2], random_state=0).pvalue == 1

    @pytest.mark.parametrize("test", [mmd_test, energy_test])
    def test_far_from_zero_as_at_zero(self, test):
        X, Y = rows(1, 60), rows(2, 50)
        expected, found = (
            test(X + far, Y + far, n_resamples=49, random_state=0) for far in (0, 1e7)
        )
        # Adding 1e7 rounds rows to 1e-9, and their squares, uncentred, to 0.02.
        assert found.statistic == pytest.approx(expected.statistic, abs=1e-7)

    @pytest.mark.parametrize("test", [mmd_test, energy_test])
    def test_a_seed_repeats_the_result(self, test):
        X, Y = rows(1, 60), rows(2, 50)
        for make in (int, np.random.default_rng, np.random.RandomState):
            results = {test(X, Y, random_state=make(7), max_rows=40) for _ in range(3)}
            assert len(results) == 1
        assert test(X, Y, random_state=7, max_rows=40) != test(X, Y, max_rows=40)

    @pytest.mark.parametrize("test", [mmd_test, energy_test])
    def test_more_rows_than_max_rows_are_sampled_and_the_result_says_so(self, test):
        X, Y = rows(1, 60), rows(2, 30)
        found = test(X, Y, random_state=0, max_rows=40)
        assert (found.n_rows, found.is_subsample) == ((40, 30), True)
        for max_rows in (60, None):
            found = test(X, Y, random_state=0, max_rows=max_rows)
            assert (found.n_rows, found.is_subsample) == ((60, 30), False)

    @pytest.mark.parametrize("test", [mmd_test, energy_test])
    def test_the_default_looks_at_two_thousand_rows(self, test):
        X = rows(1, 2_001, 2)
        found = test(X, X[:2_000], n_resamples=1, random_state=0)
        assert (found.n_rows, found.is_subsample) == ((2_000, 2_000), True)

    @given(seed=SEEDS, n_features=st.integers(1, 8))
    def test_invariances(self, seed, n_features):
        X, Y = rows(seed, 9, n_features), rows(seed + 1, 8, n_features, shift=1)
        turn, scale = rotation(seed, n_features), 3.0
        options = {"n_resamples": 29, "random_state": seed}
        moved = [Z @ (turn * scale) + 5 for Z in (X, Y)]
        one, other = mmd_test(X, Y, **options), mmd_test(*moved, **options)
        assert other.statistic == pytest.approx(one.statistic, rel=1e-7, abs=1e-10)
        assert other.pvalue == one.pvalue
        assert other.bandwidth == pytest.approx(scale * one.bandwidth)
        swapped = mmd_test(Y[::-1], X[::-1], **options).statistic
        assert swapped == pytest.approx(one.statistic, rel=1e-7, abs=1e-10)
        one, other = energy_test(X, Y, **options), energy_test(*moved, **options)
        assert other.statistic == pytest.approx(scale * one.statistic, rel=1e-7)
        assert other.pvalue == one.pvalue
        swapped = energy_test(Y[::-1], X[::-1], **options).statistic
        assert swapped == pytest.approx(one.statistic, rel=1e-7)

    def test_it_unpacks_as_scipys_results_do(self):
        found = energy_test(rows(1), rows(2), random_state=0)
        statistic, pvalue = found
        assert (statistic, pvalue) == (found.statistic, found.pvalue)

    def test_wrong_options(self):
        X, Y = rows(1), rows(2)
        with pytest.raises(
            ValueError, match=r"`kernel` must be one of 'rbf', 'linear'"
        ):
            mmd_test(X, Y, kernel="gauss")
        with pytest.raises(ValueError, match=r"`n_resamples` must be an int of at"):
            mmd_test(X, Y, n_resamples=0)
        with pytest.raises(ValueError, match=r"`max_rows` must be at least 10 or None"):
            energy_test(X, Y, max_rows=1)
        with pytest.raises(TypeError, match=r"`max_rows` must be an int"):
            energy_test(X, Y, max_rows=12.5)
        with pytest.raises(ValueError, match=r"`kernel` must return finite values of"):
            mmd_test(X, Y, kernel=lambda A, B: np.ones(3))
        with pytest.raises(ValueError, match=r"needs rows that differ; the 80 rows"):
            mmd_test(np.ones((40, 5)), np.ones((40, 5)))


class TestKSDrift:
    @pytest.mark.parametrize("n_samples", [30, 10_500], ids=["exact", "asymptotic"])
    def test_each_feature_is_scipys_test(self, n_samples):
        X, Y = rows(1, n_samples, 4), rows(2, 40, 4, shift=0.2)
        found = ks_drift(X, Y)
        for feature, (x, y) in enumerate(zip(X.T, Y.T, strict=True)):
            expected = ks_2samp(x, y)
            assert found.statistic[feature] == expected.statistic
            assert found.raw_pvalue[feature] == expected.pvalue
        assert found.n_rows == (n_samples, 40)

    def test_adjusted_as_benjamini_and_hochberg_step_up(self):
        found = ks_drift(rows(1, 30, 12), rows(2, 30, 12))
        order = np.argsort(found.raw_pvalue)[::-1]
        smallest, expected = 1.0, np.empty(12)
        for rank, feature in zip(range(12, 0, -1), order, strict=True):
            smallest = min(smallest, found.raw_pvalue[feature] * 12 / rank)
            expected[feature] = smallest
        np.testing.assert_allclose(found.pvalue, expected, rtol=1e-12)

    def test_methods(self):
        X, Y = rows(1, 30, 12), rows(2, 30, 12)
        plain, mild, strict = (ks_drift(X, Y, method=m) for m in (None, "bh", "by"))
        np.testing.assert_array_equal(plain.pvalue, plain.raw_pvalue)
        harmonic = (1 / np.arange(1, 13)).sum()
        np.testing.assert_allclose(
            strict.pvalue, np.minimum(1, mild.pvalue * harmonic), rtol=1e-12
        )
        assert [r.method for r in (plain, mild, strict)] == [None, "bh", "by"]
        with pytest.raises(
            ValueError, match=r"`method` must be one of None, 'bh', 'by'"
        ):
            ks_drift(X, Y, method="bonferroni")

    def test_a_constant_feature_is_right(self):
        X, Y = rows(1, 30, 3), rows(2, 20, 3)
        X[:, 0] = Y[:, 0] = 0.1
        X[:, 1], Y[:, 1] = 0.1, 0.2
        found = ks_drift(X, Y)
        assert (found.statistic[0], found.raw_pvalue[0]) == (0, 1)
        assert (found.statistic[1], found.pvalue[1] < 1e-9) == (1, True)

    def test_ties_need_no_warning(self):
        """Of one row in 30 the exact p-value rounds above 1, which SciPy warns of."""
        X, Y = np.arange(60).reshape(2, 30, 1) % 30 < 15
        Y[0] = False
        found = ks_drift(X, Y)
        assert found.statistic == pytest.approx(1 / 30)
        assert found.pvalue == pytest.approx(1)

    def test_it_squares_nothing(self):
        X, Y = rows(1, 30), rows(2, 30)
        found, expected = ks_drift(1e300 * X, 1e300 * Y), ks_drift(X, Y)
        np.testing.assert_array_equal(found.pvalue, expected.pvalue)

    @given(seed=SEEDS)
    def test_invariances(self, seed):
        X, Y = rows(seed, 9), rows(seed + 1, 8, shift=1)
        expected = ks_drift(X, Y)
        for other in (ks_drift(X**3, Y**3), ks_drift(X[::-1], Y), ks_drift(Y, X)):
            np.testing.assert_allclose(other.statistic, expected.statistic)
            np.testing.assert_allclose(other.pvalue, expected.pvalue)
        turned = ks_drift(X[:, ::-1], Y[:, ::-1])
        np.testing.assert_array_equal(turned.pvalue, expected.pvalue[::-1])


def by_centring(X, Y, similar, *, debiased):
    """Compute CKA with whole matrices, as Kornblith et al. 2019, Song et al. 2012."""
    n = len(X)
    K, L = similar(X), similar(Y)

    def hsic(K, L):
        if not debiased:
            H = np.eye(n) - 1 / n
            return np.trace(K @ H @ L @ H)
        K, L = K - np.diag(K.diagonal()), L - np.diag(L.diagonal())
        ones = np.ones(n)
        return (
            np.trace(K @ L)
            + (ones @ K @ ones) * (ones @ L @ ones) / (n - 1) / (n - 2)
            - 2 / (n - 2) * (ones @ K @ L @ ones)
        )

    return hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L))


class TestCKA:
    @pytest.mark.parametrize("debiased", [False, True], ids=["plain", "debiased"])
    @pytest.mark.parametrize("n_samples", [9, 60], ids=["by rows", "by features"])
    def test_linear_is_the_definition(self, n_samples, debiased):
        X = rows(1, n_samples, 6, shift=3)
        Y = X @ rows(2, 6, 4) + rows(3, n_samples, 4)
        expected = by_centring(X, Y, lambda Z: Z @ Z.T, debiased=debiased)
        assert cka(X, Y, debiased=debiased) == pytest.approx(expected, rel=1e-10)

    @pytest.mark.parametrize("debiased", [False, True], ids=["plain", "debiased"])
    def test_rbf_is_the_definition(self, debiased):
        X, Y = rows(1, 30, 6, shift=3), rows(1, 30, 4)

        def similar(Z):
            return rbf_kernel(Z, gamma=1 / (2 * np.median(pdist(Z, "sqeuclidean"))))

        expected = by_centring(X, Y, similar, debiased=debiased)
        found = cka(X, Y, kernel="rbf", debiased=debiased)
        assert found == pytest.approx(expected, rel=1e-10)

    @pytest.mark.parametrize("debiased", [False, True], ids=["plain", "debiased"])
    @pytest.mark.parametrize("kernel", ["linear", "rbf"])
    @pytest.mark.parametrize("n_samples", [9, 60])
    def test_equals_thingsvision(self, thingsvision, n_samples, kernel, debiased):
        peer = thingsvision("cka", "cka_numpy").CKANumPy(
            m=n_samples, kernel=kernel, unbiased=debiased, sigma=None
        )
        X = rows(1, n_samples, 6)
        Y = X @ rows(2, 6, 4) + rows(3, n_samples, 4)
        found = cka(X, Y, kernel=kernel, debiased=debiased)
        assert found == pytest.approx(float(peer.compare(X, Y)), rel=1e-9)

    def test_a_callable_kernel(self):
        X, Y = rows(1, 30, 6), rows(2, 30, 4)
        found = cka(X, Y, kernel=lambda A, B: (1 + A @ B.T) ** 2)
        expected = by_centring(X, Y, lambda Z: (1 + Z @ Z.T) ** 2, debiased=False)
        assert found == pytest.approx(expected, rel=1e-10)

    @pytest.mark.parametrize("kernel", ["linear", "rbf", lambda A, B: A @ B.T + 1])
    @pytest.mark.parametrize("debiased", [False, True], ids=["plain", "debiased"])
    def test_blocks_change_nothing(self, kernel, debiased, monkeypatch):
        X, Y = rows(1, 23, 30), rows(2, 23, 30)
        expected = cka(X, Y, kernel=kernel, debiased=debiased)
        monkeypatch.setattr(_similarity, "_GRAM_ROWS", 5)
        found = cka(X, Y, kernel=kernel, debiased=debiased)
        assert found == pytest.approx(expected, rel=1e-10)

    def test_without_bias_unrelated_rows_are_near_zero(self):
        """Wide random rows: 0.8 with the bias, where the truth is 0."""
        X, Y = (np.random.default_rng(s).normal(size=(50, 200)) for s in (1, 2))
        assert cka(X, Y) > 0.75
        assert abs(cka(X, Y, debiased=True)) < 0.05

    @pytest.mark.parametrize("kernel", ["linear", "rbf"])
    @pytest.mark.parametrize("debiased", [False, True], ids=["plain", "debiased"])
    @given(seed=SEEDS, n_features=st.integers(1, 12), n_samples=st.integers(5, 25))
    def test_invariances(self, kernel, debiased, seed, n_features, n_samples):
        X, Y = rows(seed, n_samples, n_features), rows(seed + 1, n_samples, 3)
        options = {"kernel": kernel, "debiased": debiased}
        expected = cka(X, Y, **options)
        near = pytest.approx(expected, rel=1e-6, abs=1e-8)
        turn = 3 * rotation(seed, n_features)
        assert cka(X @ turn + 5, Y / 7 - 1, **options) == near
        assert cka(Y, X, **options) == near
        assert cka(X[::-1], Y[::-1], **options) == near
        assert 1 - 1e-9 <= cka(X, X, **options) <= 1
        assert debiased or 0 <= expected <= 1

    @pytest.mark.parametrize("kernel", ["linear", "rbf"])
    @pytest.mark.parametrize("n_samples", [9, 60], ids=["by rows", "by features"])
    def test_far_from_zero_as_at_zero(self, kernel, n_samples):
        X, Y = rows(1, n_samples, 6), rows(2, n_samples, 4)
        expected, found = (cka(X + far, Y, kernel=kernel) for far in (0, 1e7))
        assert found == pytest.approx(expected, abs=1e-7)

    def test_equal_rows_are_an_error(self):
        with pytest.raises(ValueError, match=r"`Y` must have rows that differ; all 40"):
            cka(rows(), np.ones((40, 2)))

    def test_rows_that_are_all_equally_alike_are_an_error(self):
        with pytest.raises(
            ValueError, match=r"to this `kernel` all pairs are the same"
        ):
            cka(np.eye(6), rows(1, 6), debiased=True)
        with pytest.raises(
            ValueError, match=r"to this `kernel` all pairs are the same"
        ):
            cka(rows(1), rows(2), kernel=lambda A, B: np.ones((len(A), len(B))))

    def test_debiased_needs_four_rows(self):
        with pytest.raises(ValueError, match=r"`X` must have at least 4 rows, got 3"):
            cka(rows(1, 3), rows(2, 3), debiased=True)


class TestRSA:
    @pytest.mark.parametrize("metric", ["euclidean", "cosine", "correlation"])
    @pytest.mark.parametrize("method", ["pearson", "spearman"])
    def test_equals_thingsvision(self, thingsvision, metric, method):
        peer = thingsvision("rsa", "helpers")
        X = rows(1, 20, 6)
        Y = X @ rows(2, 6, 4) + rows(3, 20, 4)
        distances = [peer.compute_rdm(Z, metric) for Z in (X, Y)]
        expected = peer.correlate_rdms(*distances, correlation=method)
        found = rsa(X, Y, metric=metric, method=method)
        assert found.statistic == pytest.approx(expected, rel=1e-9)

    def test_kendall_counts_pairs_of_pairs(self):
        X, Y = rows(1, 8), rows(2, 8)
        order = [np.sign(np.subtract.outer(d, d)) for d in map(pdist, (X, Y))]
        expected = (order[0] * order[1]).sum() / (28 * 27)
        assert rsa(X, Y, method="kendall").statistic == pytest.approx(expected)

    def test_it_says_what_was_computed(self):
        found = rsa(rows(1), rows(2), metric="cityblock", method="pearson")
        assert (found.metric, found.method) == ("cityblock", "pearson")
        assert (found.n_rows, found.is_subsample) == (40, False)
        assert float(found) == found.statistic

    def test_more_rows_than_max_rows_are_sampled_the_same_in_both(self):
        X = rows(1, 60)
        found = rsa(X, X + 1, max_rows=20)
        assert (found.n_rows, found.is_subsample) == (20, True)
        assert found.statistic == pytest.approx(1)
        Y = rows(2, 60)
        assert rsa(X, Y, max_rows=20) == rsa(X, Y, max_rows=20)
        assert rsa(X, Y, max_rows=20) != rsa(X, Y, max_rows=20, random_state=1)

    def test_none_looks_at_all_rows(self):
        X, Y = rows(1, 2_010, 1), rows(2, 2_010, 1)
        assert rsa(X, Y).n_rows == 2_000
        found = rsa(X, Y, max_rows=None)
        assert (found.n_rows, found.is_subsample) == (2_010, False)
        assert found.statistic == pytest.approx(
            spearmanr(pdist(X), pdist(Y)).statistic, rel=1e-12
        )

    @given(seed=SEEDS, n_features=st.integers(2, 12), n_samples=st.integers(4, 25))
    def test_invariances(self, seed, n_features, n_samples):
        X, Y = rows(seed, n_samples, n_features), rows(seed + 1, n_samples, 3)
        turn = 3 * rotation(seed, n_features)
        for method in ("pearson", "spearman", "kendall"):
            near = pytest.approx(float(rsa(X, Y, method=method)), abs=1e-7)
            assert float(rsa(X @ turn + 5, Y / 7 - 1, method=method)) == near
            assert float(rsa(Y, X, method=method)) == near
            assert float(rsa(X[::-1], Y[::-1], method=method)) == near
            assert float(rsa(X, X, method=method)) == pytest.approx(1)
        squares = float(rsa(X, Y, metric="sqeuclidean"))
        assert squares == pytest.approx(float(rsa(X, Y)), abs=1e-7)

    def test_undefined_distances_are_errors(self):
        X = rows(1)
        Y = X.copy()
        Y[3] = 0
        with pytest.raises(ValueError, match=r"'cosine' is undefined for `Y`.* zeros"):
            rsa(X, Y, metric="cosine")
        Y[3] = 0.5
        with pytest.raises(ValueError, match=r"undefined for `X`.* equal values"):
            rsa(Y, X, metric="correlation")
        with pytest.raises(
            ValueError, match=r"`X` must have rows at different distanc"
        ):
            rsa(np.eye(6), rows(1, 6))

    def test_wrong_options(self):
        with pytest.raises(ValueError, match=r"`metric` must be one of 'euclidean'"):
            rsa(rows(1), rows(2), metric="hamming")
        with pytest.raises(ValueError, match=r"`method` must be one of 'spearman'"):
            rsa(rows(1), rows(2), method="r")


class TestEffectiveRank:
    @pytest.mark.parametrize("n_samples", [9, 700], ids=["few rows", "many rows"])
    @pytest.mark.parametrize("center", [True, False])
    def test_is_the_definition(self, n_samples, center):
        X = rows(1, n_samples, 20, shift=2)
        expected = np.exp(entropy(svdvals(X - center * X.mean(0))))
        assert effective_rank(X, center=center) == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize("n_samples", [10, 500], ids=["few rows", "many rows"])
    def test_directions_that_are_not_there_do_not_count(self, n_samples):
        """With a plain eigenvalue of the covariance, rounding would add 1e-3."""
        narrow = rows(1, n_samples)
        wide = narrow @ rotation(0, 200)[:5] + 0.1
        assert effective_rank(wide) == pytest.approx(effective_rank(narrow), rel=1e-9)

    def test_equal_directions_are_counted(self):
        signs = np.concatenate([np.eye(7), -np.eye(7)])
        assert effective_rank(signs) == pytest.approx(7, rel=1e-12)
        assert effective_rank(np.ones((9, 4)), center=False) == pytest.approx(1)

    @given(seed=SEEDS, n_samples=st.integers(2, 30), n_features=st.integers(1, 12))
    def test_invariances(self, seed, n_samples, n_features):
        X = rows(seed, n_samples, n_features)
        turn = 3 * rotation(seed, n_features)
        expected = effective_rank(X)
        near = pytest.approx(expected, rel=1e-6)
        assert effective_rank(X @ turn + 5) == near
        assert effective_rank(X[::-1]) == near
        assert 1 - 1e-12 <= expected <= min(n_samples, n_features) + 1e-12

    def test_no_variance_is_an_error(self):
        with pytest.raises(ValueError, match=r"`X` must have rows that differ; all 9"):
            effective_rank(np.full((9, 4), 0.1))
        with pytest.raises(ValueError, match=r"`X` must have a value that is not 0"):
            effective_rank(np.zeros((9, 4)), center=False)


def slow_two_nn(X):
    """Fit the line of Facco et al. 2017 to all rows but the last tenth."""
    nearest = np.sort(cdist(X, X), axis=1)
    mu = np.sort(nearest[:, 2] / nearest[:, 1])
    kept = int(0.9 * len(X))
    x = np.log(mu[:kept])
    y = -np.log(1 - np.arange(1, kept + 1) / len(X))
    return np.linalg.lstsq(x[:, None], y)[0][0]


class TestIntrinsicDimension:
    @pytest.mark.parametrize("n_features", [1, 3, 40], ids=["line", "tree", "wide"])
    def test_is_the_definition(self, n_features):
        X = rows(1, 200, n_features)
        expected = slow_two_nn(X)
        assert intrinsic_dimension(X) == pytest.approx(expected, rel=1e-9)

    def test_far_from_zero(self):
        X = rows(1, 200, 40)
        X = (X + 1e9) - 1e9  # what the sum can hold
        found = intrinsic_dimension(X + 1e9)
        assert found == pytest.approx(slow_two_nn(X), rel=1e-6)

    def test_clusters_far_apart(self):
        """So far that products round away which of the near rows is the nearest."""
        X = rows(1, 300, 20)
        X[::2] += 3e7
        assert intrinsic_dimension(X) == pytest.approx(slow_two_nn(X), rel=1e-9)

    @pytest.mark.parametrize("dimension", [1, 2, 5])
    def test_a_cube_has_its_dimension_wherever_it_lies(self, dimension, rng):
        cube = rng.uniform(size=(2_000, dimension)) @ rotation(0, 30)[:dimension]
        assert intrinsic_dimension(cube) == pytest.approx(dimension, rel=0.12)

    def test_equal_rows_count_once(self):
        X = rows(1, 100)
        twice = np.concatenate([X, X[::2], -0.0 * X[:1], 0.0 * X[:1]])
        expected = intrinsic_dimension(np.concatenate([X, 0 * X[:1]]))
        assert intrinsic_dimension(twice) == expected

    @given(seed=SEEDS, n_samples=st.integers(5, 40), n_features=st.integers(2, 20))
    def test_invariances(self, seed, n_samples, n_features):
        X = rows(seed, n_samples, n_features)
        near = pytest.approx(intrinsic_dimension(X), rel=1e-5)
        assert intrinsic_dimension(X @ (3 * rotation(seed, n_features)) + 5) == near
        assert intrinsic_dimension(X[::-1]) == near

    def test_too_few_different_rows_are_an_error(self):
        with pytest.raises(ValueError, match=r"at least 3 rows that differ, got 2"):
            intrinsic_dimension([[0.0], [1.0], [0.0], [1.0]])

    def test_a_lattice_has_no_dimension_to_read_off(self):
        with pytest.raises(ValueError, match=r"not equally far, as they are on a latt"):
            intrinsic_dimension(np.argwhere(np.ones((5, 5))))


def columns_of(X):
    return pd.DataFrame(X, columns=[f"f{k}" for k in range(X.shape[1])])


def half(X):
    return torch.tensor(X).bfloat16()


KINDS = {
    "tensor with gradient": lambda X: torch.tensor(X, requires_grad=True),
    "list of tensors": lambda X: list(torch.tensor(X)),
    "list of lists": np.ndarray.tolist,
    "pandas": columns_of,
    "pandas, nullable": lambda X: columns_of(X).convert_dtypes(),
    "polars": lambda X: pl.DataFrame(columns_of(X).to_dict("list")),
    "Fortran order": np.asfortranarray,
    "strided": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "other byte order": lambda X: X.astype(">f8"),
}


class TestInputs:
    @pytest.mark.parametrize("kind", KINDS)
    @over(ALL)
    def test_any_kind_gives_what_the_array_gives(self, name, kind):
        X, Y = rows(1), rows(2)
        found = ALL[name](KINDS[kind](X), KINDS[kind](Y))
        # BLAS may sum another memory layout in another order.
        np.testing.assert_allclose(found, ALL[name](X, Y), rtol=1e-9)

    @pytest.mark.parametrize("convert", [half, lambda X: X.astype(np.float16)])
    @over(ALL)
    def test_half_types_are_widened_and_the_work_is_done_in_float64(
        self, name, convert
    ):
        X, Y = convert(rows(1)), convert(rows(2))
        wide = [
            np.asarray(Z, dtype=float) if isinstance(Z, np.ndarray) else Z.double()
            for Z in (X, Y)
        ]
        np.testing.assert_allclose(ALL[name](X, Y), ALL[name](*wide), rtol=1e-6)

    @over(ALL)
    def test_float32_is_summed_in_float64(self, name):
        X, Y = (rows(s, 300).astype(np.float32) for s in (1, 2))
        expected = ALL[name](X.astype(float), Y.astype(float))
        np.testing.assert_allclose(ALL[name](X, Y), expected, rtol=1e-9)

    @over(ALL)
    def test_integers(self, name):
        X, Y = (np.rint(100 * rows(s)).astype(np.int32) for s in (1, 2))
        expected = ALL[name](X.astype(float), Y.astype(float))
        np.testing.assert_allclose(ALL[name](X, Y), expected, rtol=1e-12)

    @over(ALL)
    def test_nothing_is_written_to_the_input(self, name):
        X, Y = rows(1), rows(2)
        kept = X.copy(), Y.copy()
        ALL[name](X, Y)
        np.testing.assert_array_equal((X, Y), kept)
        X.flags.writeable = Y.flags.writeable = False
        ALL[name](X, Y)

    @over(ALL)
    def test_blocks_change_nothing(self, name, monkeypatch):
        X, Y = rows(1, 43), rows(2, 43)
        expected = ALL[name](X, Y)
        monkeypatch.setattr(_checked_embeddings, "_BLOCK_BYTES", 8 * 5 * 6)  # six rows
        np.testing.assert_allclose(ALL[name](X, Y), expected, rtol=1e-9)

    @over(ALL)
    def test_a_constant_column_is_right(self, name):
        """Where it carries nothing, it changes nothing."""
        X, Y = (np.insert(rows(s), 2, 0.1, axis=1) for s in (1, 2))
        found = ALL[name](X, Y)
        assert np.isfinite(found).all()
        if name not in ("mahalanobis", "ks_drift"):  # tested there
            expected = ALL[name](rows(1), rows(2))
            np.testing.assert_allclose(found, expected, rtol=1e-7)


class TestErrors:
    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    @over(ALL)
    def test_values_that_are_not_finite(self, name, bad):
        X = rows(1)
        X[3, 2] = bad
        with pytest.raises(ValueError, match=r"Input X contains (NaN|infinity)"):
            ALL[name](X, rows(2))

    @over(SAME_COLUMNS | SAME_ROWS)
    def test_the_second_set_is_checked_by_its_name(self, name):
        Y = rows(2)
        Y[3, 2] = np.nan
        with pytest.raises(ValueError, match=r"Input (Y|reference) contains NaN"):
            ALL[name](rows(1), Y)

    @pytest.mark.parametrize("scale", [1e-100, 1e100])
    @over(set(ALL) - {"ks_drift"})
    def test_values_whose_squares_float64_cannot_hold(self, name, scale):
        """Without it: 1.0 for unrelated rows from CKA, wrong distances, and no word."""
        with pytest.raises(ValueError, match=r"between 1e-70 and 1e\+70 in size"):
            ALL[name](scale * rows(1), scale * rows(2))

    @pytest.mark.parametrize("scale", [1e-60, 1e-30, 1e30, 1e60])
    @over(ALL)
    def test_large_and_small_values_are_no_trouble(self, name, scale):
        """Scale out what scales, in units of the features or of their squares."""
        expected, found = (
            np.atleast_1d(ALL[name](c * rows(1), c * rows(2))) for c in (1, scale)
        )
        if name in ("frechet_distance", "energy_test"):
            found[0] /= scale ** (2 if name == "frechet_distance" else 1)
        np.testing.assert_allclose(found, expected, rtol=1e-7)

    @pytest.mark.parametrize(
        ("bad", "error", "words"),
        [
            (np.ones(5), ValueError, r"Expected 2D array, got 1D"),
            (np.ones((2, 3, 4)), ValueError, r"Found array with dim 3"),
            (sp.csr_array(np.eye(5)), TypeError, r"Sparse data was passed for X"),
            (np.eye(5) * 1j, TypeError, r"complex128 values are complex"),
            ([["a", "b"]], TypeError, r"holds no plain numbers"),
            (None, TypeError, r"a NoneType cannot be an array"),
            (torch.nn.Linear(2, 2), TypeError, r"a Linear cannot be an array"),
            (torch.ones(5, 5, device="meta"), TypeError, r"a shape but no values"),
            (np.ones((5, 0)), ValueError, r"0 feature"),
        ],
        ids=[
            "1-D",
            "3-D",
            "sparse",
            "complex",
            "text",
            "None",
            "module",
            "meta",
            "0 wide",
        ],
    )
    @over(ALL)
    def test_what_is_no_matrix_of_numbers(self, name, bad, error, words):
        with pytest.raises(error, match=words):
            ALL[name](bad, rows(2))

    @over(set(ALL) - {"mahalanobis"})
    def test_too_few_rows(self, name):
        with pytest.raises(
            ValueError, match=r"`X` must have at least [234] rows, got 1"
        ):
            ALL[name](rows(1)[:1], rows(2)[:1])
        with pytest.raises(
            ValueError, match=r"`X` must have at least [234] rows, got 0"
        ):
            ALL[name](rows(1)[:0], rows(2)[:0])

    def test_too_few_rows_for_mahalanobis(self):
        with pytest.raises(ValueError, match=r"`reference` must have at least 2 rows"):
            mahalanobis(rows(1), rows(2)[:1])
        with pytest.raises(ValueError, match=r"`X` must have at least 1 rows, got 0"):
            mahalanobis(rows(1)[:0], rows(2))

    @over(SAME_COLUMNS)
    def test_different_widths(self, name):
        with pytest.raises(
            ValueError, match=r"must have the same columns, got 5 and 4"
        ):
            ALL[name](rows(1), rows(2)[:, :4])

    @over(SAME_COLUMNS)
    def test_columns_of_frames_in_another_order(self, name):
        X, Y = columns_of(rows(1)), columns_of(rows(2))
        with pytest.raises(ValueError, match=r"in the same order\. Take (Y|ref)"):
            ALL[name](X, Y[Y.columns[::-1]])

    @over(SAME_ROWS)
    def test_different_rows(self, name):
        with pytest.raises(ValueError, match=r"of the same rows, got 40 and 39 rows"):
            ALL[name](rows(1), rows(2)[:39])
        assert np.isfinite(ALL[name](rows(1), rows(2)[:, :3]))


def test_equal_rows_are_at_distance_0_wherever_they_lie():
    """A product of matrices alone would put them 4e-6 apart."""
    twice = np.repeat(rows(1, 20), 2, axis=0) + 100
    found = _kernels.distances(twice, twice)
    assert found[::2, 1::2].diagonal().max() == 0
    np.testing.assert_allclose(found, cdist(twice, twice), atol=1e-5)


def test_a_factor_of_any_rank_gives_its_covariance_back():
    for rank in (1, 3, 6):
        Z = rows(1, 100, rank) @ rows(2, rank, 6) if rank < 6 else rows(1, 100, 6)
        scatter = Z.T @ Z
        factor = _moments.factor_scatter(scatter, n_samples=100)
        assert len(factor) == rank
        np.testing.assert_allclose(factor.T @ factor, scatter, rtol=1e-9)
