"""The same row gives the same vector, however the rows came and were cut."""

import pickle
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from torch import nn
from torch.utils.data import TensorDataset

from sklearn_torch_bridge import TorchFeatureExtractor
from tests.tiny_models import mlp

WIDTH = 4


class Named(nn.Module):
    """Takes its rows by name as well as by place, and has layers to tap."""

    def __init__(self):
        super().__init__()
        self.inner = mlp()

    def forward(self, x):
        return self.inner(x)


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


def in_fortran_order(X):
    return np.asfortranarray(X)


KINDS = {
    "array": np.array,
    "read-only": read_only,
    "fortran": in_fortran_order,
    "float64": lambda X: X.astype(np.float64),
    "backwards": lambda X: X[::-1].copy()[::-1],
    "lists": lambda X: X.tolist(),
    "rows": list,
    "tensor": torch.tensor,
    "tensors": lambda X: list(torch.tensor(X)),
    "pandas": lambda X: pd.DataFrame(X, columns=list("abcd")),
    "polars": lambda X: pl.DataFrame(X, schema=list("abcd")),
    "sparse": scipy.sparse.csr_array,
    "coo": scipy.sparse.coo_array,
    "columns": lambda X: {"x": X},
    "dataset": lambda X: TensorDataset(torch.tensor(X), torch.zeros(len(X))),
}

rows = st.lists(
    st.lists(
        st.integers(-40, 40).map(lambda value: value / 8),
        min_size=WIDTH,
        max_size=WIDTH,
    ),
    min_size=1,
    max_size=12,
)
SETTINGS = st.fixed_dictionaries(
    {
        "layer": st.sampled_from([None, "inner.first", "inner.act", "inner.*"]),
        "batch_size": st.one_of(st.integers(1, 13), st.just("auto")),
        "num_workers": st.sampled_from([0, 0, 0, 2]),
        "dtype": st.sampled_from(["float32", "float64", None]),
    }
)


def check_a_row_is_itself(values, picks, kind, cut, params, *, cached):
    X = np.array(values, np.float32)
    model = Named()
    chosen = X[[pick % len(X) for pick in picks]]  # repeated, left out, in any order
    plain = TorchFeatureExtractor(model, **params | {"batch_size": 1})
    alone = np.concatenate([plain.transform(row[None]) for row in chosen])
    with TemporaryDirectory() as folder:
        cache = f"{folder}/e.db" if cached else None
        extractor = TorchFeatureExtractor(model, cache=cache, **params)
        if cached:  # filled in another order
            extractor.transform(KINDS[kind](X[::-1].copy()))
        first = extractor.transform(KINDS[kind](chosen[:cut])) if cut else alone[:0]
        rest = extractor.transform(KINDS[kind](chosen[cut:]))
        Z = np.concatenate([first, rest])
        largest = np.abs(alone).max(axis=1, keepdims=True)
        assert (np.abs(Z - alone) <= 1e-5 * largest).all()
        if cached:
            known = extractor.transform(KINDS[kind](X))
            places = [pick % len(X) for pick in picks]
            np.testing.assert_array_equal(Z, known[places])


CASES = given(
    values=rows,
    picks=st.lists(st.integers(0, 99), min_size=2, max_size=16),
    kind=st.sampled_from(list(KINDS)),
    cut=st.integers(0, 1),
    params=SETTINGS,
)


@settings(max_examples=150, deadline=None)
@CASES
def test_a_row_is_itself_in_any_company(values, picks, kind, cut, params):
    check_a_row_is_itself(values, picks, kind, cut, params, cached=False)


@settings(max_examples=50, deadline=None)
@CASES
def test_a_row_is_exactly_itself_with_a_cache(values, picks, kind, cut, params):
    check_a_row_is_itself(values, picks, kind, cut, params, cached=True)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@CASES
def test_a_row_is_itself_ten_thousand_times(values, picks, kind, cut, params):
    check_a_row_is_itself(values, picks, kind, cut, params, cached=False)


@settings(max_examples=50, deadline=None)
@given(
    values=rows,
    kind=st.sampled_from([kind for kind in KINDS if kind != "dataset"]),
    params=SETTINGS,
    output=st.sampled_from(["default", "pandas", "polars"]),
)
def test_clone_pickle_and_parameters_commute_with_transform(
    values, kind, params, output
):
    X = KINDS[kind](np.array(values, np.float32))
    extractor = TorchFeatureExtractor(Named(), **params).fit(X)
    Z = extractor.transform(X)
    for other in (
        clone(extractor),
        clone(extractor).fit(X),
        pickle.loads(pickle.dumps(extractor)),  # noqa: S301 - made here
        TorchFeatureExtractor(extractor.model).set_params(**params),
        TorchFeatureExtractor(**extractor.get_params()),
    ):
        np.testing.assert_array_equal(other.transform(X), Z)
    frame = clone(extractor).set_output(transform=output).fit_transform(X)
    np.testing.assert_array_equal(np.asarray(frame), Z)
