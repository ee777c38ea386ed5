import numpy as np

from sklearn_torch_bridge.stats._moments import factor_scatter
from tests.embeddings import rows


def test_a_factor_of_any_rank_gives_its_covariance_back():
    for rank in (1, 3, 6):
        Z = rows(1, 100, rank) @ rows(2, rank, 6) if rank < 6 else rows(1, 100, 6)
        scatter = Z.T @ Z
        factor = factor_scatter(scatter, n_samples=100)
        assert len(factor) == rank
        np.testing.assert_allclose(factor.T @ factor, scatter, rtol=1e-9)
