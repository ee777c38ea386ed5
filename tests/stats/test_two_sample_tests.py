"""Statistics are those of the definitions; p-values are right under the null.

And small where something changed. Under the null the p-values of 300 repetitions are
uniform, says a Kolmogorov-Smirnov test of their own.
"""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist, pdist
from scipy.stats import energy_distance, ks_2samp, kstest
from sklearn.metrics.pairwise import rbf_kernel

from sklearn_torch_bridge.stats import energy_test, ks_drift, mmd_test
from tests.embeddings import SEEDS, rotation, rows


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
    def test_equal_rows_have_the_largest_p_value(self, test):
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


N_FEATURES = 8


TESTS = {
    "mmd, rbf": lambda X, Y, seed: (
        mmd_test(X, Y, n_resamples=199, random_state=seed).pvalue
    ),
    "mmd, linear": lambda X, Y, seed: (
        mmd_test(X, Y, kernel="linear", n_resamples=199, random_state=seed).pvalue
    ),
    "mmd, sampled rows": lambda X, Y, seed: (
        mmd_test(X, Y, n_resamples=199, random_state=seed, max_rows=30).pvalue
    ),
    "energy": lambda X, Y, seed: (
        energy_test(X, Y, n_resamples=199, random_state=seed).pvalue
    ),
    # One feature of eight: the others depend on it.
    "ks, one feature": lambda X, Y, _seed: ks_drift(X, Y).raw_pvalue[0],
}


REPETITIONS = 300


SHIFTS = {"mmd, rbf": 0.3, "mmd, linear": 0.3, "energy": 0.3, "ks, one feature": 0.6}


def draw(seed, n_samples, shift=0.0):
    """Draw correlated, skewed rows: no test may rely on normal ones."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(0).normal(size=(N_FEATURES, N_FEATURES))
    return rng.gumbel(size=(n_samples, N_FEATURES)) @ mix / 3 + shift


@pytest.mark.parametrize("name", TESTS)
def test_under_the_null_p_values_are_uniform(name):
    """Sizes without a common divisor, so that a KS statistic has many values."""
    found = [
        TESTS[name](draw((seed, 1), 61), draw((seed, 2), 53), seed)
        for seed in range(REPETITIONS)
    ]
    assert kstest(found, "uniform").pvalue > 0.05


@pytest.mark.parametrize("name", SHIFTS)
def test_a_shift_is_found_nine_times_of_ten(name):
    """With 100 rows a side, at the 5 % level, by that many standard deviations."""
    shift = SHIFTS[name] * draw(99, 10_000).std(0)
    found = [
        TESTS[name](draw((seed, 1), 100), draw((seed, 2), 100, shift), seed)
        for seed in range(REPETITIONS // 3)
    ]
    assert np.mean(np.array(found) <= 0.05) >= 0.9


@pytest.mark.parametrize("method", ["bh", "by"])
@pytest.mark.parametrize(
    ("n_changed", "most"), [(0, 0.1), (20, 0.05)], ids=["no change", "half change"]
)
def test_the_false_discovery_rate_is_held(method, n_changed, most):
    """Of those found at 10 %, at most that share of the features without a change.

    Without adjustment it would be 80 % where none of 40 features changes, and 7 %
    where half of them do.
    """
    shares, found = [], []
    for seed in range(REPETITIONS // 3):
        rng = np.random.default_rng(seed)
        X, Y = rng.normal(size=(2, 100, 40))
        common = rng.normal(size=(2, 100, 1))  # features depend on each other
        X, Y = X + common[0], Y + common[1]
        Y[:, :n_changed] += 1.5
        rejected = ks_drift(X, Y, method=method).pvalue <= 0.1
        shares.append(rejected[n_changed:].sum() / max(1, rejected.sum()))
        found.extend(rejected[:n_changed])
    assert np.mean(shares) <= most
    assert not n_changed or np.mean(found) >= 0.9
