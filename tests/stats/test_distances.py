import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from sklearn.covariance import LedoitWolf

from sklearn_torch_bridge.stats import frechet_distance, mahalanobis
from tests.embeddings import SEEDS, rotation, rows


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
