"""Checked rows know for each row of `X` which value it shows."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sklearn_torch_bridge._rows._arrays import ARRAY, ArrayFeed
from sklearn_torch_bridge._rows._base import CheckedRows, FeedError, SubsetFeed

VALUES = np.arange(5.0)[:, None]
origins = st.none() | st.lists(st.integers(-1, 4), min_size=1, max_size=9).map(np.array)


def checked_rows(origin):
    n_samples = len(VALUES) if origin is None else len(origin)
    return CheckedRows(ARRAY, VALUES, n_samples, origin)


def shown(checked):
    """Return for each row of `X` its value; NaN where it shows none."""
    origin = checked.origin_of(None)
    if origin is None:
        return VALUES[:, 0].tolist()
    return [float(VALUES[row, 0]) if row >= 0 else None for row in origin]


@given(origin=origins, which=st.sets(st.integers(0, 4), min_size=1).map(sorted))
def test_rows_of_a_part_of_the_values_are_found_again(origin, which):
    checked, part = checked_rows(origin), np.array(which)
    places = checked.origin_of(part)
    for row, value in enumerate(shown(checked)):
        found = None if places[row] < 0 else float(VALUES[part[places[row]], 0])
        assert found == (value if value in VALUES[part, 0] else None)
    for number in range(len(part)):
        named = checked.caller_rows(np.array([number]), part)
        assert named.tolist() == np.flatnonzero(places == number).tolist()


@given(origin=origins)
def test_equal_rows_run_once_and_show_the_same(origin):
    checked = checked_rows(origin)
    contents = [b"a", b"b", b"a", b"c", b"b"]
    merged = checked.merged(contents)
    runs = merged.which_may_run()
    assert len({contents[row] for row in runs}) == len(runs)
    before, after = shown(checked), shown(merged)
    for old, new in zip(before, after, strict=True):
        assert (old is None) == (new is None)
        if old is not None:
            assert contents[int(old)] == contents[int(new)]


@given(origin=origins, data=st.data())
def test_values_are_left_out_when_all_rows_that_show_them_are_finished(origin, data):
    checked = checked_rows(origin)
    flags = st.lists(
        st.booleans(), min_size=checked.n_samples, max_size=checked.n_samples
    )
    finished = np.array(data.draw(flags))
    left = checked.without(checked.which_may_run(), finished)
    wanted = {
        value
        for value, done in zip(shown(checked), finished, strict=True)
        if value is not None and not done
    }
    assert {float(VALUES[row, 0]) for row in left} == wanted


X = np.arange(12.0).reshape(12, 1)


@given(
    which=st.lists(st.integers(0, 11), min_size=1, unique=True).map(sorted),
    cut=st.tuples(st.integers(0, 12), st.integers(0, 12)).map(sorted),
)
def test_a_batch_holds_the_chosen_rows(which, cut):
    feed = SubsetFeed(ArrayFeed(X, torch.float64), np.array(which))
    assert len(feed) == len(which)
    rows = slice(*cut)
    (batch,) = feed.batch(rows).args
    assert batch[:, 0].tolist() == which[rows]


def test_rows_of_a_subset_keep_their_order_and_their_groups():
    feed = ArrayFeed(X, torch.float64)
    feed.lengths, feed.groups, feed.even = np.arange(12), np.arange(12) % 2, True
    part = SubsetFeed(feed, np.array([3, 4, 5, 6]))
    assert (part.lengths.tolist(), part.groups.tolist()) == ([3, 4, 5, 6], [1, 0] * 2)
    assert part.even
    (batch,) = part.batch(np.array([0, 2, 1, 3])).args
    assert batch[:, 0].tolist() == [3, 5, 4, 6]


def test_a_row_that_fails_has_its_number_in_the_subset():
    class Failing(ArrayFeed):
        def batch(self, rows):
            raise FeedError(np.array([7]), ValueError)

    with pytest.raises(FeedError) as caught:
        SubsetFeed(Failing(X, torch.float64), np.array([2, 5, 7])).batch(slice(0, 3))
    assert caught.value.rows.tolist() == [2]
    assert str(caught.value.for_rows(np.array([40]))) == "row 40"
