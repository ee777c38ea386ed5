"""Arrays become tensors that own their memory and hold every value."""

import numpy as np
import pytest
import torch
from hypothesis import given

from sklearn_torch_bridge import to_numpy
from sklearn_torch_bridge._convert import to_tensor
from tests import strategies


@given(strategies.dense(strategies.shapes(), strategies.FLOATS))
def test_there_and_back_is_equal(tensor):
    back = to_tensor(to_numpy(tensor), dtype=tensor.dtype)
    assert back.dtype == tensor.dtype
    assert torch.equal(back, tensor)


class TestToTensor:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    def test_overflow_is_an_error(self, dtype):
        with pytest.raises(ValueError, match="`dtype` must hold every value"):
            to_tensor(np.array([1.0, -1e300]), dtype=dtype)

    def test_bfloat16_alone_overflowing_is_an_error(self):
        """Its largest value is below that of float32."""
        with pytest.raises(ValueError, match=r"got torch\.bfloat16"):
            to_tensor(np.array([3.4e38]), dtype=torch.bfloat16)

    def test_infinity_stays(self):
        back = to_tensor(np.array([np.inf, -np.inf]), dtype=torch.bfloat16)
        assert back.tolist() == [np.inf, -np.inf]

    def test_integers_stay_integers(self):
        assert to_tensor(np.arange(3), dtype=torch.float32).dtype is torch.int64

    @pytest.mark.parametrize("dtype", [None, torch.float32, torch.float64])
    def test_the_tensor_owns_its_memory(self, dtype):
        X = np.ones(3)
        to_tensor(X, dtype=dtype).zero_()
        assert (X == 1).all()

    def test_read_only_reversed_and_big_endian_arrays_are_read(self):
        X = np.arange(3, dtype=">f8")[::-1]
        X.flags.writeable = False
        assert to_tensor(X).tolist() == [2, 1, 0]
