"""Arrays become tensors that own their memory and hold every value."""

import numpy as np
import pytest
import torch
from hypothesis import given

from sklearn_torch_bridge import TensorToArray, to_numpy
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


TINY = {
    "float8_e4m3fn": ([448, -448, 0, 0.5], [449, -1000, 1e9, np.inf, -np.inf]),
    "float8_e4m3fnuz": ([240, -240, 0, 0.5], [241, -1000, 1e9, np.inf, -np.inf]),
    "float8_e5m2": ([57344, -57344, 0, 0.5, np.inf, -np.inf], [60000, -1e5, 1e9]),
    "float8_e5m2fnuz": ([57344, -57344, 0, 0.5], [60000, -1e5, np.inf, -np.inf]),
    "float8_e8m0fnu": ([2.0**127, 1, 0.5], [0, -0.5, -4, 1e-40, np.inf, -np.inf]),
}


@pytest.mark.parametrize("name", TINY)
def test_floats_of_one_byte_hold_a_value_or_refuse_it(name):
    """They saturate, drop signs and zeros, or make NaN of what does not fit."""
    dtype = getattr(torch, name, None)
    if dtype is None:
        pytest.skip("new in torch 2.7")
    good, bad = TINY[name]
    fitted = TensorToArray().fit(torch.ones(1, 1).to(dtype))
    for value in good:
        assert fitted.inverse_transform([[value]]).float().item() == value
    assert fitted.inverse_transform([[np.nan]]).float().isnan().item()
    for value in bad:
        for type_ in (np.float64, np.float32, np.float16):
            if abs(value) > float(np.finfo(type_).max) and np.isfinite(value):
                continue
            if type_ is np.float16 and value == 1e-40:  # which is 0 there
                continue
            with pytest.raises(ValueError, match=f"torch.{name}: .* in row 1 would"):
                fitted.inverse_transform(np.array([[1], [value]], type_))
            with pytest.raises(ValueError, match="must hold every value"):
                to_tensor(np.array(value, type_), dtype=dtype)


def test_values_may_be_rounded_to_floats_of_one_byte():
    made = to_tensor(np.float32([0.3, 1e-30, 300]), dtype=torch.float8_e4m3fn)
    assert made.float().tolist() == [0.3125, 0, 288]
