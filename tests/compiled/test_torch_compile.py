"""Batches, errors and results on their way to and from `torch.compile`."""

import numpy as np
import pytest
import torch

from sklearn_torch_bridge._compiled import repeat_single_row
from sklearn_torch_bridge._compiled._torch_compile import (
    copy_batch,
    describe_error,
    relative_error,
    repeat_rows,
    traceable,
)
from sklearn_torch_bridge._types import Inputs
from tests.tiny_models import mlp


def test_a_single_row_is_repeated_with_its_mask():
    inputs = repeat_single_row(
        Inputs(
            (torch.ones(1, 3),), {"n": 4, "ids": torch.zeros(1, 2)}, torch.ones(1, 2)
        )
    )
    assert inputs.args[0].shape == (2, 3)
    assert inputs.kwargs["ids"].shape == (2, 2)
    assert inputs.kwargs["n"] == 4
    assert inputs.mask.shape == (2, 2)


def test_the_relative_error_counts_equal_nans_for_nothing():
    values = torch.tensor([1.0, np.nan, np.inf])
    assert relative_error([values], [values.clone()]) == 0
    assert relative_error([values], [torch.tensor([1.0, 2.0, np.inf])]) == np.inf


def test_rows_are_repeated_until_there_are_enough():
    given = ((torch.arange(6.0).reshape(3, 2),), {"n": 3, "scale": torch.tensor(2.0)})
    args, kwargs = repeat_rows(given, 8)
    assert torch.equal(args[0], torch.arange(6.0).reshape(3, 2).repeat(3, 1))
    assert kwargs == given[1]
    assert repeat_rows(given, 3) is given


def test_a_batch_is_copied_contiguous_and_without_history():
    weight = torch.ones(2, 3, requires_grad=True)
    ((own,), options) = copy_batch((((weight * 2).T,), {"n": 4}), ragged=True)
    assert options == {"n": 4}
    assert own.is_contiguous()
    assert own.grad_fn is None
    assert own.tolist() == [[2, 2], [2, 2], [2, 2]]


@pytest.mark.parametrize("layers", [("first",), ("first", ""), ()], ids=str)
def test_a_traceable_forward_returns_what_the_layers_return(layers):
    module = mlp().eval()
    x = torch.ones(2, 4)
    with torch.no_grad():
        expected = {"first": module.first(x), "": module(x)}
        forward, owner = traceable(module, layers)
        found = forward(x)
    assert set(found) == set(layers or ("",))
    for layer, value in found.items():
        assert torch.equal(value, expected[layer])
    del owner


def test_two_forwards_share_no_code():
    one, other = (traceable(mlp(), ()) for _ in range(2))
    assert one[0].__code__ is not other[0].__code__


def test_an_error_of_the_compiler_is_described_in_a_few_lines():
    text = describe_error(RuntimeError("first\n\n second\nthird\nfourth"))
    assert "`compile` must be False" in text
    assert "(RuntimeError: first second third)" in text


@pytest.mark.parametrize(
    ("found", "expected", "error"),
    [
        ([1.0, -8.0], [1.0, -10.0], 0.2),
        ([0.0], [0.0], 0),
        ([1.0], [0.0], torch.finfo(torch.float64).max),
    ],
)
def test_the_relative_error_is_that_of_the_largest_value(found, expected, error):
    measured = relative_error([torch.tensor(found)], [torch.tensor(expected)])
    assert measured == pytest.approx(error)
