import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import svdvals
from scipy.spatial.distance import cdist
from scipy.stats import entropy

from sklearn_torch_bridge.stats import effective_rank, intrinsic_dimension
from tests.embeddings import SEEDS, rotation, rows


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
