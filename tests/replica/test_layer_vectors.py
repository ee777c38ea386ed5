"""What layers return becomes one vector a row, or an error that says what to do."""

import pytest
import torch
from torch import nn

from sklearn_torch_bridge._replica import Reader, ReadError, Reading
from sklearn_torch_bridge.pooling import POOLINGS

MEAN = POOLINGS["mean"]


def read(value, *readings, n_rows=2, mask=None, kept=None):
    """Read one value off each layer that the readings name."""
    reader = Reader(readings)
    reader.begin(mask, n_rows)
    for layer in dict.fromkeys(reading.layer for reading in readings):
        reader.read(layer, value)
    if reader.waiting:
        reader.settle({}, list)
    return reader.take(n_rows if kept is None else kept)


def test_vectors_are_taken_as_they_are():
    value = torch.ones(2, 3)
    (found,) = read(value, Reading())
    assert found is value


def test_tokens_are_pooled_with_the_mask():
    hidden = torch.tensor([[[1.0], [3.0], [9.0]], [[5.0], [9.0], [9.0]]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    (found,) = read(hidden, Reading(pool=MEAN), mask=mask)
    assert found.tolist() == [[2], [5]]


def test_numbers_become_a_column():
    assert read(torch.ones(2), Reading())[0].tolist() == [[1], [1]]


def test_rows_that_only_filled_the_batch_are_left_out():
    (found,) = read(torch.arange(6.0).reshape(3, 2), Reading(), n_rows=3, kept=1)
    assert found.tolist() == [[0, 1]]


def test_several_readings_come_in_the_order_asked_for():
    value = {"a": torch.zeros(2, 1), "b": torch.ones(2, 1)}
    readings = [Reading("x", "b"), Reading("y", "a"), Reading("x", "a")]
    found = read(value, *readings)
    assert [one[0].item() for one in found] == [1, 0, 0]


def test_a_later_layer_that_works_in_place_changes_nothing():
    value = torch.ones(2, 3)
    reader = Reader((Reading("a"), Reading("b")))
    reader.begin(None, 2)
    reader.read("a", value)
    value.zero_()
    reader.read("b", value)
    found = reader.take(2)
    assert [one.mean().item() for one in found] == [1, 0]


# torch says so where the test makes such a tensor
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_rows_are_pooled_without_their_padding():
    rows = [torch.tensor([[2.0], [4.0]]), torch.tensor([[7.0]])]
    (found,) = read(torch.nested.nested_tensor(rows), Reading(pool=MEAN))
    assert found.tolist() == [[3], [7]]


@pytest.mark.parametrize(
    ("value", "reading", "kind", "words"),
    [
        ("text", Reading("a"), TypeError, "must be a tensor, got str"),
        (torch.ones(3, 2), Reading("a"), ValueError, r"one result per row.*\(3, 2\)"),
        (torch.tensor(1.0), Reading("a"), ValueError, "one result per row"),
        (
            torch.ones(2, 3, 4),
            Reading("a", needs_vector=True),
            ValueError,
            "must leave one vector per row",
        ),
        (
            torch.ones(2, 3),
            Reading("a", pool=lambda *_: [1]),
            TypeError,
            "must be a tensor, got list",
        ),
    ],
    ids=["text", "other rows", "no rows", "no vector", "pooling to a list"],
)
def test_what_is_no_vector_a_row_is_refused_with_its_layer(value, reading, kind, words):
    with pytest.raises(ReadError) as caught:
        read(value, reading)
    assert caught.value.layer == "a"
    with pytest.raises(kind, match=words):
        raise caught.value.reason


def test_a_batch_keeps_nothing_of_the_one_before():
    reader = Reader((Reading("a"), Reading("b")))
    reader.begin(None, 2)
    reader.read("a", torch.ones(2, 1))
    reader.begin(None, 1)
    reader.read("b", nn.Identity()(torch.ones(1, 1)))
    with pytest.raises(KeyError, match="0"):
        reader.take(1)


@pytest.mark.parametrize("n_bytes", [0, 8])
@pytest.mark.parametrize("shape", [(2, 3, 4), (2,)])
def test_memory_that_a_model_gave_back_is_not_pooled(n_bytes, shape):
    value = torch.ones(*shape, dtype=torch.float64)
    value.untyped_storage().resize_(n_bytes)
    with pytest.raises(ReadError) as caught:
        read(value, Reading(pool=MEAN))
    assert "freed or resized" in str(caught.value.reason)
