"""50,000 rows of 768 features take little more memory than the rows themselves."""

import statistics
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUADRATIC = {"cka, rbf", "intrinsic_dimension"}
FUNCTIONS = [
    *("frechet_distance", "mahalanobis", "mmd_test", "energy_test", "ks_drift"),
    *("cka", "cka, debiased", "cka, rbf", "rsa", "effective_rank"),
    "intrinsic_dimension",
]


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import embedding_statistics

    return embedding_statistics


def test_every_function_is_measured(bench):
    assert sorted(bench.CALLS) == sorted(FUNCTIONS)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_peak_is_at_most_a_gigabyte_above_the_input(bench, name, dtype):
    # Minutes with all rows; a matrix of all pairs of 15,000 rows is 1.8 GB.
    n_samples = 15_000 if name in QUADRATIC else 50_000
    _, peak_bytes = bench.measure(bench.CALLS[name], n_samples=n_samples, dtype=dtype)
    assert peak_bytes <= 1e9


@pytest.mark.slow
def test_the_distance_takes_little_longer_than_its_parts(bench):
    """Than two covariances and one solve for singular values."""
    seconds = bench.frechet_and_its_parts(repeats=3)
    rounds = zip(*seconds.values(), strict=True)
    assert statistics.median(own / parts for parts, own in rounds) <= 1.5
