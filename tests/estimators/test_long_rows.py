"""What is said of rows that are too long."""

import numpy as np
import pytest
from torch import nn

from sklearn_torch_bridge._estimators._long_rows import (
    LongRows,
    RowTooLongError,
    setting_of,
)
from sklearn_torch_bridge._rows import CheckedRows
from sklearn_torch_bridge._rows._texts import TEXTS
from tests.tiny_models import mlp


def rows(n_samples, origin=None):
    n_values = n_samples if origin is None else max(origin) + 1
    where = None if origin is None else np.array(origin)
    return CheckedRows(TEXTS, ["a"] * n_values, n_samples, where)


def heard(checked, notes, too_long="warn", *, forgives=False):
    long = LongRows(checked, too_long, forgives=forgives, setting=str)
    found = np.arange(len(checked))
    return long, long.hear_of_cached(checked, found, [found], notes)


def test_each_row_of_a_value_is_named_and_the_largest_share():
    long, _ = heard(rows(4, [0, 1, -1, 0]), {0: "600/300tt", 1: "9/300tt"})
    assert long.lengths.tolist() == [600, 9, 0, 600]
    message = long.message(None)
    assert message.startswith("rows 0, 1, 3 of `X` were cut at 300 tokens, the maximum")
    assert "row 0 lost 50 % of its 600 tokens" in message
    assert "row 7 lost" in long.message(np.array([7, 8, 9, 10]))


def test_refused_rows_are_left_out_of_what_a_cache_has():
    long, (found, pieces) = heard(rows(3), {1: "9/3vl"}, "raise", forgives=True)
    assert found.tolist() == pieces[0].tolist() == [0, 2]
    (bad,) = long.refused()
    assert bad.places.tolist() == [1]
    with pytest.raises(RowTooLongError, match=r"row 1 of `X` has 9 values, .*most 3"):
        raise bad.error


def test_strange_notes_say_nothing():
    long, (found, _) = heard(rows(2), {0: "something else"}, "raise")
    assert len(found) == 2
    assert long.refused() == []


def test_settings_are_equal_for_copies_and_differ_for_other_weights():
    alike = [setting_of(mlp(seed=seed), nn.ReLU, ["a"], 4) for seed in (0, 0, 1)]
    assert alike[0] == alike[1] != alike[2]
