"""Floats in the dtype of the model: what fits is cast, what overflows is refused."""

import numpy as np
import pytest
import torch

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
