"""Rows of one shape make an array; one of another shape makes it one of objects."""

import numpy as np
import pytest
import torch

from sklearn_torch_bridge._results import EntriesSink, entries_of
from sklearn_torch_bridge._types import Tokens


def tokens(*lengths):
    return Tokens(torch.arange(float(sum(lengths)))[:, None], list(lengths))


def shapes(array):
    return [entry.shape for entry in array]


def test_what_was_one_array_becomes_entries_of_their_own():
    sink = EntriesSink(5, np.dtype("float64"))
    sink.write(np.array([1, 3]), [tokens(2, 2)])
    before = sink.array
    assert before.shape == (5, 2, 1)
    sink.write(np.array([0, 4]), [tokens(1, 3)])
    sink.write(slice(2, 3), [torch.ones(1, 2, 1)])
    assert shapes(sink.array) == [(1, 1), (2, 1), (2, 1), (2, 1), (3, 1)]
    assert [entry.flags.owndata for entry in sink.array] == [True] * 5
    assert sink.array[3].ravel().tolist() == before[3].ravel().tolist() == [2, 3]
    assert sink.value_dtype == np.float64
    sink.fill(np.array([1]), np.nan)
    assert np.isnan(sink.array[1]).all()
    assert sink.array[1].shape == (1, 1)


def test_the_order_of_batches_decides_nothing():
    for batches in ([(2, 2), (1, 3)], [(1, 3), (2, 2)]):
        sink = EntriesSink(4, None)
        for lengths in batches:
            rows = np.array([0, 1] if lengths == (2, 2) else [2, 3])
            sink.write(rows, [tokens(*lengths)])
        assert shapes(sink.array) == [(2, 1), (2, 1), (1, 1), (3, 1)]


@pytest.mark.parametrize(
    ("options", "piece", "is_list"),
    [
        ({}, tokens(2, 2), False),
        ({}, torch.ones(2, 2, 1), False),
        ({"tokens": True}, tokens(2, 2), True),
        ({"tokens": True}, torch.ones(2, 2, 1), False),
        ({"all_rows": True}, torch.ones(2, 2, 1), True),
        ({"tokens": True, "all_rows": True}, torch.ones(2, 2), False),
        ({}, tokens(0, 0), True),
    ],
    ids=["even", "array", "texts", "no mask", "ragged", "vectors", "no tokens"],
)
def test_what_rows_are_decides_whether_even_ones_are_kept_apart(
    options, piece, is_list
):
    sink = EntriesSink(2, None, **options)
    sink.write(slice(0, 2), [piece])
    assert (sink.array.dtype == object) is is_list


def test_rows_that_others_may_have_padded_are_refused():
    sink = EntriesSink(4, None)
    sink.write(slice(0, 2), [torch.ones(2, 2, 1)])
    with pytest.raises(ValueError, match="Pool rows of different length"):
        sink.write(slice(2, 4), [torch.ones(2, 3, 1)])
    sink.keeps_shape = lambda: True
    sink.write(slice(2, 4), [torch.ones(2, 3, 1)])
    assert shapes(sink.array) == [(2, 1), (2, 1), (3, 1), (3, 1)]


def test_equal_rows_have_entries_of_their_own():
    sink = EntriesSink(3, None)
    sink.expect(np.array([1, 0, 1]))
    sink.write(slice(0, 2), [tokens(1, 2)])
    assert shapes(sink.array) == [(2, 1), (1, 1), (2, 1)]
    sink.array[0][:] = 7
    assert sink.array[2].ravel().tolist() == [1, 2]
    sink.expect(np.array([1, 0, 1]))
    sink.place(np.array([1]), [[np.ones((4, 1))]])
    assert shapes(sink.array) == [(4, 1), (1, 1), (4, 1)]


def test_entries_are_cast_and_cut():
    one, two = entries_of(tokens(1, 2), np.dtype("float64"))
    assert (one.dtype, one.tolist(), two.tolist()) == (np.float64, [[0]], [[1], [2]])
    assert [row.shape for row in entries_of(torch.ones(2, 3, 1), None)] == [(3, 1)] * 2
