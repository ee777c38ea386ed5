"""One tensor: checked where it is, copied a batch at a time."""

import numpy as np
import pytest
import torch

from sklearn_torch_bridge._rows._tensors import TensorFeed


def rows(*numbers):
    return np.array(numbers)


@pytest.mark.parametrize(
    ("held", "dtype", "value"),
    [
        (torch.float64, torch.float32, 1e300),
        (torch.float32, torch.float16, 1e5),
        (torch.bfloat16, torch.float16, 1e5),
    ],
    ids=str,
)
def test_a_tensor_that_the_models_dtype_cannot_hold_is_an_error(held, dtype, value):
    feed = TensorFeed(torch.full((3, 1), value, dtype=held), dtype)
    with pytest.raises(ValueError, match=f"{dtype}, but a value of {held} would over"):
        feed.batch(slice(0, 2))
    for mask in (-torch.inf, torch.finfo(held).min):
        (cast,) = (
            TensorFeed(torch.full((2, 1), mask, dtype=held), dtype)
            .batch(slice(0, 2))
            .args
        )
        assert cast.tolist() == [[-torch.inf]] * 2


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64], ids=str)
def test_tensor_rows_are_copied(dtype):
    source = torch.ones(3, 2, dtype=dtype, requires_grad=dtype.is_floating_point)
    (tensor,) = TensorFeed(source, torch.float32).batch(rows(0, 1)).args
    tensor.zero_()
    assert source.min().item() == 1
    expected = torch.float32 if dtype.is_floating_point else dtype
    assert tensor.dtype == expected
