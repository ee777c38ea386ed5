import weakref

import numpy as np
import pytest
import torch

from sklearn_torch_bridge import ConversionError
from sklearn_torch_bridge._results._array_sink import ArraySink


def rows(*numbers):
    return np.array(numbers)


def test_batches_land_in_the_callers_order():
    sink = ArraySink(4, np.dtype("f4"))
    sink.write(rows(3, 0), [torch.tensor([[3.0], [0.0]])])
    sink.write(rows(1, 2), [torch.tensor([[1.0], [2.0]])])
    assert sink.array.tolist() == [[0], [1], [2], [3]]


def test_each_row_of_the_feed_lands_in_every_row_that_shows_it():
    origin = np.array([0, 1, 0, 2, 0])
    sink = ArraySink(5, np.dtype("f4"))
    sink.expect(origin)
    assert sorted(sink.caller_rows(rows(2, 0)).tolist()) == [0, 2, 3, 4]
    assert sink.write(rows(2, 0), [torch.tensor([[2.0], [0.0]])]) == 4
    assert sink.write(rows(1), [torch.tensor([[1.0]])]) == 1
    assert sink.array[:, 0].tolist() == origin.tolist()


def test_rows_that_the_feed_does_not_have_are_left_to_others():
    sink = ArraySink(4, np.dtype("f4"))
    sink.allocate([(2,)], np.dtype("f4"))
    sink.fill(np.array([1, 3]), [[7, 7], [8, 8]])
    sink.expect(np.array([0, -1, 1, -1]))
    sink.write(slice(0, 2), [torch.tensor([[1.0, 1.0], [2.0, 2.0]])])
    assert sink.array[:, 0].tolist() == [1, 7, 2, 8]


def test_pieces_stand_side_by_side():
    sink = ArraySink(2, np.dtype("f8"))
    sink.write(rows(1, 0), [torch.tensor([[1], [0]]), torch.tensor([[5, 6], [7, 8]])])
    assert sink.array.tolist() == [[0, 7, 8], [1, 5, 6]]
    assert sink.widths == (1, 2)


def test_without_dtype_the_widest_of_the_pieces_is_taken():
    sink = ArraySink(1, None)
    half, double = torch.ones(1, 1).bfloat16(), torch.ones(1, 1).double()
    sink.write(rows(0), [half, double])
    assert sink.array.dtype == np.float64


def test_the_array_is_allocated_once():
    sink = ArraySink(2, np.dtype("f4"))
    sink.write(rows(0), [torch.zeros(1, 3)])
    array = sink.array
    sink.write(rows(1), [torch.ones(1, 3)])
    assert sink.array is array


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x,
        lambda x: x.t().contiguous().t(),
        lambda x: torch._neg_view(-x),
        lambda x: x[:, :1].expand(-1, 3),
        lambda x: x.double(),
        lambda x: x.bfloat16(),
    ],
    ids=["plain", "transposed", "negative", "expanded", "double", "half"],
)
def test_batches_like_the_first_and_unlike_it_are_written_right(make):
    sink = ArraySink(8, np.dtype("f4"))
    batch = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    for start, piece in ((0, batch), (2, make(batch)), (4, batch), (6, make(batch))):
        sink.write(slice(start, start + 2), [piece])
    expected = torch.cat([batch, make(batch), batch, make(batch)]).float()
    assert sink.array.tolist() == expected.tolist()


def test_rows_of_another_width_are_refused():
    sink = ArraySink(2, np.dtype("f4"))
    sink.write(rows(0), [torch.zeros(1, 3)])
    with pytest.raises(
        ValueError, match=r"\(3,\) as those .* row 1 of `X` .* got \(1, 4\)"
    ):
        sink.write(rows(1), [torch.ones(1, 4)])


@pytest.mark.parametrize("first", [6, 8, 100_000])
def test_nothing_is_written_beyond_the_last_row(first):
    sink = ArraySink(8, np.dtype("f4"))
    sink.write(slice(0, 4), [torch.ones(4, 3)])  # the next is written without a check
    with pytest.raises(ValueError, match="a batch must have shape"):
        sink.write(slice(first, first + 4), [torch.ones(4, 3)])


def test_a_batch_of_another_dtype_than_the_first_is_checked_anew():
    sink = ArraySink(4, None)
    sink.write(slice(0, 2), [torch.ones(2, 1)])
    sink.write(slice(2, 3), [torch.ones(1, 1)])  # alike: written without checks
    with pytest.raises(ValueError, match="1e\\+300 would overflow"):
        sink.write(slice(3, 4), [torch.full((1, 1), 1e300, dtype=torch.float64)])


def test_nothing_holds_the_array_once_it_is_released():
    sink = ArraySink(2, None)
    sink.write(slice(0, 1), [torch.ones(1, 1)])
    held = weakref.ref(sink.array)
    sink.release()
    assert held() is None


class Quantized(torch.Tensor):
    """Holds halves of its values, as quantised weights hold others."""

    def dequantize(self):
        return 2 * self.as_subclass(torch.Tensor)


def test_each_batch_of_a_subclass_is_unwrapped():
    sink = ArraySink(3, None)
    for row in range(3):
        piece = torch.full((1, 1), row / 2).as_subclass(Quantized)
        sink.write(slice(row, row + 1), [piece])
    assert sink.array[:, 0].tolist() == [0, 1, 2]


def test_a_later_batch_without_its_memory_is_refused():
    """Batches like the first are not checked again, but for this."""
    sink = ArraySink(4, np.dtype("f4"))
    sink.write(slice(0, 2), [torch.ones(2, 3)])
    freed = torch.ones(2, 3)
    freed.untyped_storage().resize_(0)
    with pytest.raises(ConversionError, match="freed or resized"):
        sink.write(slice(2, 4), [freed])
