"""P-values are right where nothing changed, and small where something did.

Under the null the p-values of 300 repetitions are uniform, says a Kolmogorov-Smirnov
test of their own.
"""

import numpy as np
import pytest
from scipy.stats import kstest

from sklearn_torch_bridge.stats import energy_test, ks_drift, mmd_test

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
        for seed in range(REPETITIONS)
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
    for seed in range(REPETITIONS):
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
