import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sklearn_torch_bridge._batching import (
    as_indices,
    count_rows,
    describe_rows,
    iter_batches,
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
    batches = list(iter_batches(len(lengths), size, given_lengths))
    rows = [row for batch in batches for row in as_indices(batch)]
    assert sorted(rows) == list(range(len(lengths)))
    assert all(0 < count_rows(batch) <= size for batch in batches)
    assert by_length or rows == sorted(rows)


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
