import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist

from sklearn_torch_bridge.stats._kernels import distances, fit_kernel
from tests.embeddings import rows


def test_equal_rows_are_at_distance_0_wherever_they_lie():
    """A product of matrices alone would put them 4e-6 apart."""
    twice = np.repeat(rows(1, 20), 2, axis=0) + 100
    found = distances(twice, twice)
    assert found[::2, 1::2].diagonal().max() == 0
    np.testing.assert_allclose(found, cdist(twice, twice), atol=1e-5)


def test_each_row_is_at_distance_0_from_itself():
    """Of many equal columns, sums in two orders differ by more than what is noise."""
    wide = np.outer(np.linspace(0.5, 1, 20), np.ones(100_000))
    assert not distances(wide, wide).diagonal().any()


def test_the_bandwidth_is_that_of_rows_that_differ():
    sample = rows(1, 20)
    squares = pdist(sample, "sqeuclidean")
    kernel, bandwidth = fit_kernel("rbf", np.repeat(sample, 2, axis=0))
    assert bandwidth == pytest.approx(np.sqrt(np.median(squares)), rel=1e-12)
    expected = np.exp(-cdist(sample, sample[:7], "sqeuclidean") / 2 / bandwidth**2)
    np.testing.assert_allclose(kernel(sample, sample[:7]), expected, rtol=1e-10)
