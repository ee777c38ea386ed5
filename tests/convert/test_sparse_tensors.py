"""Sparse tensors become sparse arrays that scikit-learn takes."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given

from sklearn_torch_bridge import to_numpy
from sklearn_torch_bridge._convert import result_dtype
from tests import strategies

pytestmark = [
    # torch says so where the tests make such tensors, not where they are converted
    pytest.mark.filterwarnings("ignore:Sparse .* tensor support is in beta"),
    pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental"),
]


@given(strategies.sparse())
def test_sparse_values_equal_the_dense_ones(tensor):
    array = to_numpy(tensor)
    assert array.toarray().tolist() == tensor.to_dense().tolist()
    assert array.dtype == result_dtype(tensor.dtype)
    assert array.indices.dtype == array.indptr.dtype == np.int32


SPARSE = {
    **strategies.SPARSE_LAYOUTS,
    "scipy csr": lambda tensor: sp.csr_array(tensor.numpy()),
    "scipy csc": lambda tensor: sp.csc_array(tensor.numpy()),
    "scipy coo": lambda tensor: sp.coo_array(tensor.numpy()),
}


@pytest.mark.parametrize("make", SPARSE.values(), ids=SPARSE)
class TestSparse:
    def test_values_are_narrowed(self, make):
        tensor = torch.tensor([[0.5, 0.0], [0.0, 3.0]], dtype=torch.float64)
        array = to_numpy(make(tensor), dtype="float32")
        assert array.dtype == np.float32
        assert array.toarray().tolist() == tensor.tolist()

    def test_a_value_that_does_not_fit_is_an_error(self, make):
        tensor = torch.full((1, 2), 1e300, dtype=torch.float64)
        with pytest.raises(ValueError, match=r"must hold every value, .* 1e\+300"):
            to_numpy(make(tensor), dtype="float32")

    def test_scipy_has_no_float16(self, make):
        with pytest.raises(ValueError, match=r"one that SciPy has .* got 'float16'"):
            to_numpy(make(torch.eye(2)), dtype="float16")


@pytest.mark.parametrize(
    ("n_columns", "dtype"), [(2**31 - 1, np.int32), (2**31, np.int64)], ids=str
)
@pytest.mark.parametrize(
    "make",
    [
        lambda size: torch.sparse_coo_tensor([[0], [size - 1]], [2.0], (1, size)),
        lambda size: torch.sparse_csr_tensor([0, 1], [size - 1], [2.0], (1, size)),
        lambda size: sp.csr_array(([2.0], [size - 1], [0, 1]), (1, size)),
    ],
    ids=["coo", "csr", "scipy"],
)
def test_indices_are_int32_as_long_as_they_fit(make, n_columns, dtype):
    with torch.sparse.check_sparse_tensor_invariants():
        array = to_numpy(make(n_columns))
    assert array.shape == (1, n_columns)
    assert array.indices.tolist() == [n_columns - 1]
    assert array.indices.dtype == dtype


def test_sparse_is_shared_where_its_indices_are_int32():
    starts, columns = (torch.tensor(i, dtype=torch.int32) for i in ([0, 1], [2]))
    values = torch.ones(1)
    tensor = torch.sparse_csr_tensor(
        starts, columns, values, (1, 3), check_invariants=True
    )
    array = to_numpy(tensor, copy=False)
    assert np.shares_memory(array.data, values.numpy())
    assert not array.data.flags.writeable


@pytest.mark.parametrize(
    ("starts", "columns"),
    [([0, 1], [3]), ([0, 1], [-1]), ([0, 2], [0])],
    ids=["beyond", "negative", "more than there are"],
)
def test_indices_are_checked_before_they_are_shared(starts, columns):
    with torch.sparse.check_sparse_tensor_invariants(enable=False):
        starts, columns = (
            torch.tensor(i, dtype=torch.int32) for i in (starts, columns)
        )
        tensor = torch.sparse_csr_tensor(starts, columns, torch.ones(1), (1, 3))
    with pytest.raises(ValueError, match=r"ind(ex|ices|ptr)"):
        to_numpy(tensor, copy=False)


@pytest.mark.parametrize("layout", ["csr", "csc", "coo"])
def test_writing_to_a_sparse_result_leaves_the_tensor_alone(layout):
    tensor = strategies.SPARSE_LAYOUTS[layout](torch.eye(3))
    array = to_numpy(tensor)
    array.data[...] = -7
    array.indices[...] = 0
    assert torch.equal(tensor.to_dense(), torch.eye(3))
