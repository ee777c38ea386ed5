"""One entry of `X`: missing, an array, numbers, or what is wrong with it."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge._convert import hidden_fault
from sklearn_torch_bridge._rows._entry_faults import (
    as_numbers,
    is_array,
    is_finite,
    is_missing,
    number_fault,
)


@pytest.mark.parametrize(
    "value", [None, float("nan"), np.float32("nan"), pd.NA, pd.NaT], ids=repr
)
def test_missing_values_of_every_library_are_missing(value):
    assert is_missing(value)
    assert number_fault(value) == "is missing"


@pytest.mark.parametrize("value", ["", 0, np.inf, np.zeros(0), []], ids=repr)
def test_empty_and_infinite_values_are_not_missing(value):
    assert not is_missing(value)


def test_a_list_of_numbers_becomes_an_array_and_others_stay():
    np.testing.assert_array_equal(as_numbers([1, None]), [1, np.nan])
    for other in (["a"], [[1], [2, 3]]):
        assert as_numbers(other) is other


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (np.ones(2), None),
        (torch.ones(2), None),
        (np.ones(2, bool), None),
        (np.ones(2) * 1j, "is of dtype complex128"),
        (torch.ones(2) * 1j, "is of dtype torch.complex64"),
        (np.array(["a"]), "is of dtype <U1"),
        ("a", "is a str"),
        (np.ma.masked_array([1.0], [True]), "has masked values"),
        (np.ma.masked_array([1.0], [False]), None),
    ],
    ids=repr,
)
def test_what_is_no_array_of_real_numbers_is_said(value, fault):
    assert number_fault(value) == fault
    assert is_array(value) == isinstance(value, (np.ndarray, torch.Tensor))


def test_memory_that_was_freed_is_found_before_it_is_read():
    tensor = torch.ones(4, 4)
    view = tensor[2:]
    assert hidden_fault(view) is None
    tensor.untyped_storage().resize_(tensor.nbytes // 2)
    assert "freed" in hidden_fault(view)


@pytest.mark.parametrize("make", [np.array, torch.tensor], ids=["array", "tensor"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
def test_one_value_that_is_not_finite_is_enough(make, value):
    assert is_finite(make([1.0, 2.0]))
    assert is_finite(make([1, 2]))
    assert not is_finite(make([1.0, value]))


def test_floats_of_one_byte_can_be_looked_at():
    assert is_finite(torch.ones(2).to(torch.float8_e5m2))
    assert not is_finite(torch.tensor([torch.inf]).to(torch.float8_e5m2))


@pytest.mark.parametrize("dress", [lambda one: one, list], ids=["whole", "rows"])
@pytest.mark.parametrize("name", [None, "input"])
def test_a_tensor_without_values_is_refused_in_every_dress(name, dress):
    X = dress(torch.ones(2, 3, device="meta"))
    with pytest.raises((TypeError, ValueError), match="a meta tensor"):
        TorchFeatureExtractor(nn.Identity()).transform({name: X} if name else X)
