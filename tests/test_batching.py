import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sklearn_torch_bridge._batching import describe_rows, iter_batches, longest_first


@given(st.lists(st.integers(0, 9), max_size=30))
def test_longest_first_is_a_stable_order_of_all_rows(lengths):
    order = longest_first(np.array(lengths, np.int64), np.arange(len(lengths)))
    expected = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    assert order.tolist() == expected


def test_rows_without_lengths_stay_in_order():
    assert longest_first(None, np.arange(3)).tolist() == [0, 1, 2]


@given(st.integers(0, 40), st.integers(1, 50))
def test_batches_hold_every_row_once_and_none_is_too_large(n_rows, batch_size):
    batches = list(iter_batches(np.arange(n_rows), batch_size))
    assert [row for batch in batches for row in batch] == list(range(n_rows))
    assert all(0 < len(batch) <= batch_size for batch in batches)


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
