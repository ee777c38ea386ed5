"""Rows are stacked, batches joined, and both written into an array that is there."""

import numpy as np
import pytest
import torch
from hypothesis import given

from sklearn_torch_bridge import ConversionError, to_numpy
from sklearn_torch_bridge._convert import result_dtype, stack, write_rows
from tests import strategies


class TestProperties:
    @given(strategies.rows())
    def test_rows_are_stacked(self, rows):
        array = to_numpy(rows)
        assert array.tolist() == [row.tolist() for row in rows]
        assert array.dtype == np.result_type(*(result_dtype(r.dtype) for r in rows))

    @pytest.mark.parametrize("shape", [(), (3,), (1, 3)], ids=["one", "row", "batch"])
    @pytest.mark.parametrize("other", [np.zeros, torch.zeros], ids=["arrays", "mixed"])
    def test_a_list_may_hold_arrays(self, shape, other):
        array = to_numpy([np.ones(shape), other(shape)])
        assert array.shape == (2, *shape[-1:])
        assert array.dtype == np.float64
        assert array.reshape(2, -1).mean(1).tolist() == [1, 0]

    @given(strategies.batches())
    def test_batches_are_joined(self, batches):
        array = to_numpy(batches)
        assert array.tolist() == [row for batch in batches for row in batch.tolist()]


class TestWriteRows:
    @pytest.mark.parametrize(
        "rows",
        [slice(1, 3), slice(1, None), np.array([1, 2]), np.array([2, 0])],
        ids=["slice", "open slice", "run", "scattered"],
    )
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
    def test_rows_are_written_and_no_others(self, rows, dtype):
        target = np.full((3, 2), 9, np.float32)
        expected = target.copy()
        expected[rows] = [[1, 2], [3, 4]]
        write_rows(target, rows, torch.tensor([[1, 2], [3, 4]]).to(dtype))
        np.testing.assert_array_equal(target, expected)

    @pytest.mark.parametrize("rows", [slice(0, 2), np.array([0, 2])])
    @pytest.mark.parametrize("shape", [(1, 2), (2, 1), (2,), (3, 2), (2, 2, 1)])
    def test_a_batch_of_another_shape_is_not_broadcast(self, rows, shape):
        target = np.zeros((3, 2), np.float32)
        with pytest.raises(ValueError, match="a batch must have shape"):
            write_rows(target, rows, torch.ones(shape))
        assert not target.any()

    @pytest.mark.parametrize("rows", [slice(0, 1), np.array([0]), np.array([0, 2])])
    def test_overflow_is_an_error(self, rows):
        n_rows = 1 if isinstance(rows, slice) else len(rows)
        source = torch.full((n_rows, 2), 1e300, dtype=torch.float64)
        with pytest.raises(ValueError, match="would overflow"):
            write_rows(np.zeros((3, 2), np.float32), rows, source)

    def test_complex_values_are_refused(self):
        with pytest.raises(ConversionError, match="complex"):
            write_rows(np.zeros((1, 1)), slice(0, 1), torch.ones(1, 1) * 1j)

    def test_no_rows_are_no_work(self):
        target = np.zeros((3, 2), np.float32)
        write_rows(target, np.array([], dtype=np.intp), torch.ones(0, 2))
        assert not target.any()


def test_rows_of_several_axes_are_stacked_and_never_joined():
    rows = [torch.ones(1, 2, 3), torch.zeros(1, 2, 3)]
    assert stack(rows, None).shape == (2, 1, 2, 3)
    assert stack([*rows, np.ones((1, 2, 3))], np.dtype("float32")).shape == (3, 1, 2, 3)
    with pytest.raises(ConversionError, match="may be rows or batches"):
        to_numpy(rows)
