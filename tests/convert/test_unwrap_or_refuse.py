"""Tensors give their values on the CPU, or are refused before memory is read."""

import pytest
import torch
from hypothesis import given

from sklearn_torch_bridge import ConversionError
from sklearn_torch_bridge._convert import TENSOR_TYPES, unwrap
from tests import strategies

pytestmark = pytest.mark.filterwarnings(
    # torch says so where the tests make such tensors
    "ignore:Sparse .* tensor support is in beta",
    "ignore:The PyTorch API of nested tensors",
)


@given(strategies.dense(strategies.shapes(0)))
def test_dense_values_are_strided_and_without_history(tensor):
    if tensor.is_floating_point():
        tensor = tensor.clone().requires_grad_()
    values = unwrap(tensor)
    assert type(values) in TENSOR_TYPES
    assert values.layout is torch.strided
    assert not values.requires_grad
    assert values.tolist() == tensor.tolist()


def test_memory_is_shared_where_it_holds_the_values():
    tensor = torch.ones(2, 3)
    assert unwrap(tensor).data_ptr() == tensor.data_ptr()


@pytest.mark.parametrize("layout", ["csr", "csc", "coo"])
def test_sparse_tensors_stay_sparse_only_where_that_is_allowed(layout):
    tensor = strategies.SPARSE_LAYOUTS[layout](torch.eye(2)).requires_grad_()
    values = unwrap(tensor, allow_sparse=True)
    assert values.layout is tensor.layout
    assert not values.requires_grad
    with pytest.raises(ConversionError, match=r"is sparse\. Call \.to_dense"):
        unwrap(tensor)


def test_a_negative_bit_is_resolved():
    values = unwrap((torch.ones(2) * 1j).conj().imag)
    assert not values.is_neg()
    assert values.tolist() == [-1, -1]


def test_the_components_of_a_nested_tensor_are_stacked():
    rows = [torch.ones(3), torch.zeros(3)]
    assert unwrap(torch.nested.nested_tensor(rows)).tolist() == [[1] * 3, [0] * 3]
    with pytest.raises(ConversionError, match="2 components of different shapes"):
        unwrap(torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]))


class Named(torch.Tensor):
    """Carries a type and nothing else."""


class Foreign(torch.Tensor):
    """Unpacks to something that is no tensor of torch."""

    def dequantize(self):
        return torch.ones(2).as_subclass(Named)


def test_a_subclass_whose_storage_is_its_value_is_unwrapped():
    values = unwrap(torch.ones(2).as_subclass(Named))
    assert type(values) is torch.Tensor
    assert values.tolist() == [1, 1]


def test_a_subclass_that_unpacks_to_another_is_refused():
    with pytest.raises(ConversionError, match="its storage is not its value"):
        unwrap(torch.ones(2).as_subclass(Foreign))


def freed():
    tensor = torch.ones(4)
    tensor.untyped_storage().resize_(4)
    return tensor


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: torch.ones(2, device="meta"), "has a shape but no values"),
        (freed, "needs 16 bytes but its storage holds 4"),
        (lambda: torch.nn.LazyLinear(2).weight, "has no shape yet"),
    ],
    ids=["meta", "freed", "lazy"],
)
def test_a_tensor_without_values_is_refused(make, words):
    with pytest.raises(ConversionError, match=words):
        unwrap(make())
