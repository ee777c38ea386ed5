"""Whatever has an array is converted; what has none is refused and named."""

import numpy as np
import pytest
import torch

from sklearn_torch_bridge import ConversionError, to_numpy


class OnAnotherDevice:
    def __dlpack__(self):
        pytest.fail("asked for memory that no array can hold")

    def __dlpack_device__(self):
        return 2, 0


class WithAnArray(OnAnotherDevice):
    def __array__(self, dtype=None, copy=None):
        return np.ones(2)


class Unwilling:
    def __array__(self, dtype=None, copy=None):
        msg = "not today"
        raise TypeError(msg)


def test_who_has_an_array_is_asked_for_that():
    assert to_numpy(WithAnArray()).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("obj", "kind", "message"),
    [
        (OnAnotherDevice(), ConversionError, "a OnAnotherDevice is not on the CPU"),
        (Unwilling(), ConversionError, "no array on the CPU: not today"),
        ([[1, 2], [3]], ValueError, "row 0 has 2, row 1 has 1. Pad or pool"),
        ([[1, 2], 3], ValueError, "row 0 has 2, row 1 has 1. Pad or pool"),
        ([[[1], [1, 2]]] * 2, ValueError, "the rows have no common shape"),
        ([torch.ones(1), "a"], ConversionError, "a str of dtype <U1 in a list"),
        ([torch.ones(1), [[1], [1, 2]]], ConversionError, "a list in a list of"),
        ([torch.ones(1), torch.ones(2)], ValueError, r"row 0 has \(1,\), row 1"),
        (
            [torch.ones(1, 2), torch.ones(2, 3)],
            ValueError,
            r"batch 0 has \(1, 2\), batch 1 has \(2, 3\)",
        ),
        ([torch.ones(1, 2), torch.ones(2)], ValueError, "batch 0 .* batch 1 has"),
    ],
    ids=[
        *("device", "type error", "ragged", "ragged scalar", "ragged inside"),
        *("str", "ragged among tensors", "rows", "batches", "batch and row"),
    ],
)
def test_what_is_no_array_is_refused_and_named(obj, kind, message):
    with pytest.raises(kind, match=message):
        to_numpy(obj)


@pytest.mark.parametrize("copy", [None, False])
def test_arrays_are_shared_read_only_too(copy):
    X = np.ones(3)
    shared = to_numpy(X, copy=copy)
    assert np.shares_memory(shared, X)
    assert X.flags.writeable
    assert not shared.flags.writeable
