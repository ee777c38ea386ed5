"""Every function takes the same inputs, and refuses the same."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
import torch

from sklearn_torch_bridge.stats import (
    _check_embeddings,
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
from tests.embeddings import rows

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


def over(function):
    return pytest.mark.parametrize("name", function)


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
        monkeypatch.setattr(_check_embeddings, "_BLOCK_BYTES", 8 * 5 * 6)  # six rows
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
    @over(sorted(set(ALL) - {"ks_drift"}))
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

    @over(sorted(set(ALL) - {"mahalanobis"}))
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
