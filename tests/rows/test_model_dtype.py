"""Floats in the dtype of the model: what fits is cast, what overflows is refused."""

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import ForwardError, TorchFeatureExtractor
from sklearn_torch_bridge._rows._model_dtype import (
    as_argument,
    copied_row,
    to_model_dtype,
)


@pytest.mark.parametrize("make", [np.array, torch.tensor], ids=["array", "tensor"])
def test_a_row_is_a_copy_in_the_dtype_of_the_model(make):
    row = make([1.0, 2.0])
    own = copied_row(row, torch.float16)
    assert own.dtype == torch.float16
    own.zero_()
    assert row.tolist() == [1, 2]
    assert copied_row(make([1, 2]), torch.float16).dtype == torch.int64


@pytest.mark.parametrize(
    "row",
    [np.array([1.0, 1e6]), torch.tensor([1.0, 1e6], dtype=torch.float64)],
    ids=["array", "tensor"],
)
def test_a_row_that_would_overflow_is_refused(row):
    with pytest.raises(ValueError, match=r"torch.float16, but a value of .*float64"):
        copied_row(row, torch.float16)


def test_what_stands_for_minus_infinity_in_a_mask_fits_every_dtype():
    lowest = torch.tensor([torch.finfo(torch.float32).min, -torch.inf])
    assert to_model_dtype(lowest, torch.float16).tolist() == [-torch.inf] * 2


def test_arguments_that_are_no_arrays_pass_as_they_are():
    flag = object()
    assert as_argument(flag, torch.float16) is flag
    assert as_argument(np.ones(2), torch.float16).dtype == torch.float16
    assert as_argument(np.ones(2), None).dtype == torch.float64


ONE_BYTE = [name for name in vars(torch) if name.startswith("float8_e")]


@pytest.mark.parametrize("name", ONE_BYTE)
@pytest.mark.parametrize("held", [torch.float32, torch.float16, torch.float64])
def test_a_model_of_one_byte_floats_gets_what_fits_alone(name, held):
    dtype = getattr(torch, name)
    fits, lost = torch.tensor([1.0, 2.0]).to(held), torch.tensor([-60000.0]).to(held)
    assert to_model_dtype(fits, dtype).float().tolist() == [1, 2]
    assert copied_row(fits.numpy(), dtype).float().tolist() == [1, 2]
    for value in (lost, torch.tensor([torch.inf]).to(held)):
        if name == "float8_e5m2" and bool(value.isinf()):
            continue  # the only one with infinity
        with pytest.raises(ValueError, match=f"torch.{name}, but a value"):
            to_model_dtype(value, dtype)
        with pytest.raises(ValueError, match=f"torch.{name}, but a value"):
            copied_row(value.numpy(), dtype)


class Widening(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1).to(dtype), requires_grad=False)

    def forward(self, x):
        return x.float()


@pytest.mark.parametrize("name", ONE_BYTE)
@pytest.mark.parametrize(
    "dress",
    [
        lambda X: X,
        list,
        lambda X: {"x": X},
        lambda X: [(row, 0) for row in X],
        lambda X: X.float(),
        lambda X: X.float().nan_to_num(torch.nan).numpy(),  # a NaN that is quiet
    ],
    ids=["tensor", "rows", "column", "examples", "float32", "array"],
)
def test_rows_of_one_byte_floats_are_rows(name, dress):
    """torch cannot say of them whether they are finite."""
    dtype = getattr(torch, name)
    X = torch.tensor([[1.0, 4.0], [2.0, 8.0]])
    extractor = TorchFeatureExtractor(Widening(dtype), device="cpu")
    np.testing.assert_array_equal(extractor.transform(dress(X.to(dtype))), X)
    X[1, 1] = torch.nan
    with pytest.raises((ValueError, ForwardError), match="NaN"):
        extractor.transform(dress(X.to(dtype)))
