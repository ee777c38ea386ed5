"""Every dtype of torch has one of NumPy that holds its values, or is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sklearn_torch_bridge import ConversionError, to_numpy
from sklearn_torch_bridge._convert import result_dtype
from tests import strategies
from tests.kinds import KINDS

pytestmark = pytest.mark.filterwarnings(
    # torch says so where the tests make such tensors, not where they are converted
    "ignore:ComplexHalf support is experimental"
)


def test_every_dtype_of_torch_has_an_outcome():
    """Held by the table of dtypes, or refused: none is read as raw bytes."""
    named = " ".join(kind.name for kind in KINDS)
    dtypes = {d for d in vars(torch).values() if isinstance(d, torch.dtype)}
    for dtype in dtypes:
        try:
            result_dtype(dtype)
        except ConversionError:
            continue
        assert str(dtype) in named


@given(
    strategies.dense(strategies.shapes(0)),
    st.sampled_from(["float32", "float64", "complex128", "longdouble", ">f8"]),
)
def test_a_wider_dtype_holds_the_same_values(tensor, dtype):
    array = to_numpy(tensor, dtype=dtype)
    assert array.dtype == np.dtype(dtype)
    assert array.tolist() == tensor.tolist()


def test_complex_values_are_never_made_real():
    with pytest.raises(ConversionError, match=r"Use \.real"):
        to_numpy(torch.ones(1, dtype=torch.complex64), dtype="float32")


@pytest.mark.parametrize("dtype", ["U3", "object", "datetime64[s]"])
def test_dtype_names_numbers(dtype):
    with pytest.raises(ValueError, match="`dtype` must be a dtype of numbers"):
        to_numpy(torch.ones(1), dtype=dtype)


def test_a_dtype_of_torch_is_none_of_numpy():
    with pytest.raises(ValueError, match="must be a NumPy dtype of numbers, got torch"):
        to_numpy(torch.ones(2), dtype=torch.float64)
