"""Sparse matrices are dense for one batch at a time."""

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sklearn_torch_bridge import (
    BadRowWarning,
    EmbeddingCache,
    TorchFeatureExtractor,
)

FORMATS = ["csr", "csc", "coo", "dok", "lil", "bsr"]


@pytest.fixture
def sparse(rng):
    dense = rng.normal(size=(50, 20)) * (rng.random((50, 20)) < 0.1)
    return scipy.sparse.csr_array(dense)


@pytest.mark.parametrize("layout", FORMATS)
def test_a_sparse_matrix_is_dense_a_batch_at_a_time(sparse, layout):
    torch.manual_seed(0)
    model = nn.Linear(20, 3)
    X = sparse.asformat(layout)
    extractor = TorchFeatureExtractor(model, batch_size=7).fit(X)
    expected = extractor.transform(sparse.toarray())
    np.testing.assert_array_equal(extractor.transform(X), expected)
    assert extractor.n_features_in_ == 20


def test_a_sparse_matrix_is_never_dense_as_a_whole(sparse, monkeypatch):
    shapes = []
    toarray = scipy.sparse.csr_array.toarray

    def watched(self, *args, **kwargs):
        shapes.append(self.shape)
        return toarray(self, *args, **kwargs)

    monkeypatch.setattr(scipy.sparse.csr_array, "toarray", watched)
    TorchFeatureExtractor(nn.Identity(), batch_size=8).transform(sparse)
    assert max(rows for rows, _ in shapes) == 8


def test_a_cache_knows_sparse_rows_as_dense_ones(sparse, tmp_path):
    store = EmbeddingCache(tmp_path / "e.db")
    extractor = TorchFeatureExtractor(nn.Identity(), cache=store)
    Z = extractor.transform(sparse)
    np.testing.assert_array_equal(extractor.transform(sparse.toarray()), Z)
    assert store.stats()["misses"] == len(np.unique(Z, axis=0))


def test_sparse_rows_that_are_not_finite(sparse):
    sparse.data[0] = np.inf
    row = np.flatnonzero(np.diff(sparse.indptr))[0]
    with pytest.raises(ValueError, match="contains infinity"):
        TorchFeatureExtractor(nn.Identity()).transform(sparse)
    with pytest.warns(BadRowWarning, match=f"row {row} "):
        Z = TorchFeatureExtractor(nn.Identity(), on_error="nan").transform(sparse)
    assert np.flatnonzero(np.isnan(Z).all(axis=1)).tolist() == [row]


def test_the_number_of_columns_of_a_sparse_matrix_is_checked(sparse):
    extractor = TorchFeatureExtractor(nn.Identity()).fit(sparse)
    with pytest.raises(ValueError, match="has 19 features"):
        extractor.transform(sparse[:, :19])
    assert extractor.transform(sparse[:0]).shape == (0, 20)


def test_sparse_output_of_a_step_feeds_a_model(sparse):
    pipe = make_pipeline(
        StandardScaler(with_mean=False), TorchFeatureExtractor(nn.Identity())
    )
    Z = pipe.fit_transform(sparse)
    expected = StandardScaler(with_mean=False).fit_transform(sparse.toarray())
    np.testing.assert_allclose(Z, expected, rtol=1e-6)
