import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sklearn_torch_bridge._batching import (
    Batches,
    as_indices,
    count_rows,
    describe_rows,
    longest_first,
)


@given(st.lists(st.integers(0, 9), max_size=30))
def test_longest_first_is_a_stable_order_of_all_rows(lengths):
    order = longest_first(np.array(lengths, np.int64))
    expected = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    assert order.tolist() == expected


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(1, 50), st.booleans())
def test_batches_hold_every_row_once_and_none_is_too_large(lengths, size, by_length):
    given_lengths = np.array(lengths, np.int64) if by_length else None
    batches = list(Batches(len(lengths), size, given_lengths))
    rows = [row for batch in batches for row in as_indices(batch)]
    assert sorted(rows) == list(range(len(lengths)))
    assert all(0 < count_rows(batch) <= size for batch in batches)
    assert by_length or rows == sorted(rows)


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=40),
    st.integers(1, 50),
    st.integers(1, 60),
    st.booleans(),
)
def test_halves_hold_every_row_once_and_later_batches_are_no_larger(
    lengths, size, limit, by_length
):
    given_lengths = np.array(lengths, np.int64) if by_length else None
    batches = Batches(len(lengths), size, given_lengths)
    done, failures = [], 0
    for batch in batches:
        if batches.elements(batch) > limit and count_rows(batch) > 1:
            assert batches.halve(batch)
            failures += 1
        else:
            done += as_indices(batch).tolist()
    assert sorted(done) == list(range(len(lengths)))
    assert by_length or done == sorted(done)
    assert failures <= np.ceil(np.log2(size)) + 1


def test_a_single_row_cannot_be_halved():
    batches = Batches(3, 1)
    assert not batches.halve(slice(1, 2))
    assert not batches.halve(np.array([1]))


def test_a_batch_never_has_more_elements_than_fit():
    lengths = np.array([9, 5, 5, 1, 1, 1, 1, 1])
    sizes = [count_rows(batch) for batch in Batches(8, 4, lengths, most=10)]
    assert sizes == [1, 2, 4, 1]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([4], "row 4"),
        ([2, 1, 3], "rows 1 to 3"),
        ([9, 1], "rows 1, 9"),
        ([9, 1, 5, 7, 30, 21], "rows 1, 5, 7, 9, 21, ... (6 rows)"),
    ],
    ids=["one", "run", "few", "many"],
)
def test_rows_are_named_shortly(rows, words):
    assert describe_rows(np.array(rows)) == words
