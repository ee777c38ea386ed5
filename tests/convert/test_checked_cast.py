"""A cast holds every value, or raises."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sklearn_torch_bridge import to_numpy
from tests import strategies


class TestNarrowing:
    @pytest.mark.parametrize(
        ("values", "dtype"),
        [
            ([1e300, 1.0], "float32"),
            ([-1e300, 1.0], "float32"),
            ([1e5], "float16"),
            ([128], "int8"),
            ([-129], "int8"),
            ([-1], "uint8"),
            ([2**40], "int32"),
            ([-1.0], "uint64"),
            ([2.0**63], "int64"),
            ([float("nan")], "int32"),
            ([float("inf")], "int32"),
            ([0.5], "int32"),
            ([2], "bool"),
            ([1e300 + 0j], "complex64"),
        ],
    )
    @pytest.mark.parametrize("wrap", [torch.tensor, np.array, list])
    def test_a_value_that_does_not_fit_is_an_error(self, values, dtype, wrap):
        if wrap is torch.tensor:
            kind = {float: torch.float64, complex: torch.complex128, int: torch.int64}
            obj = torch.tensor(values, dtype=kind[type(values[0])])
        else:
            obj = wrap(values)
        with pytest.raises(ValueError, match="`dtype` must hold every value, got"):
            to_numpy(obj, dtype=dtype)

    def test_a_value_deep_inside_a_large_tensor_is_found(self):
        tensor = torch.ones(100_000, 3, dtype=torch.float64)
        tensor[99_999, 2] = 1e39
        with pytest.raises(ValueError, match=r"1e\+39 would overflow"):
            to_numpy(tensor, dtype="float32")

    def test_infinity_and_nan_stay_in_floats(self):
        values = [float("inf"), float("-inf"), float("nan")]
        array = to_numpy(torch.tensor(values, dtype=torch.float64), dtype="float32")
        np.testing.assert_array_equal(array, values)

    def test_bfloat16_reaches_float64_exactly(self):
        tensor = torch.tensor([3.3895e38, 1e-40], dtype=torch.bfloat16)
        assert to_numpy(tensor, dtype="float64").tolist() == tensor.double().tolist()


@given(
    strategies.dense(strategies.shapes(0), [torch.float64, torch.int64]),
    st.sampled_from(["int8", "float16", "int32", "float32"]),
)
def test_a_narrower_dtype_holds_the_same_values(tensor, dtype):
    assert to_numpy(tensor, dtype=dtype).tolist() == tensor.tolist()
