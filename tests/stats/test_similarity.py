"""Against definitions with whole matrices, and thingsvision's CKA and RSA.

Those are loaded file by file, since the package pins an old NumPy.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr
from sklearn.metrics.pairwise import rbf_kernel

from sklearn_torch_bridge.stats import _similarity, cka, rsa
from tests.embeddings import SEEDS, rotation, rows


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
