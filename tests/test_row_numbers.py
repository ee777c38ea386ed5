"""Rows of a batch as numbers, and in words."""

import numpy as np
import pytest

from sklearn_torch_bridge._row_numbers import describe_rows


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([4], "row 4"),
        ([2, 1, 3], "rows 1 to 3"),
        ([9, 1], "rows 1, 9"),
        ([9, 1, 5, 7, 30], "rows 1, 5, 7, 9, 30"),
        ([9, 1, 5, 7, 30, 21], "rows 1, 5, 7, 9, 21, ... (6 rows)"),
    ],
    ids=["one", "run", "few", "five", "many"],
)
def test_rows_are_named_shortly(rows, words):
    assert describe_rows(np.array(rows)) == words
