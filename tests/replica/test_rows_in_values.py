"""Which axis is the rows', by one shape, and by two."""

import pytest
import torch

from sklearn_torch_bridge._replica._rows_in_values import (
    Look,
    no_rows_axis,
    plain_axis,
    rows_axis,
)


@pytest.mark.parametrize(
    ("shape", "n_rows", "axis"),
    [
        ((4, 9, 2), 4, 0),
        ((9, 4, 2), 4, None),
        ((4, 4), 4, None),
        ((3, 2), 4, None),
        ((), 4, None),
        ((1, 1), 1, 0),
        ((1, 1, 1), 1, 0),
        ((1, 5, 1), 1, None),
        ((5, 1, 1), 1, None),
        ((1, 1, 5), 1, 0),
    ],
    ids=str,
)
def test_a_shape_alone_shows_the_axis_or_leaves_a_doubt(shape, n_rows, axis):
    assert plain_axis(shape, n_rows) == axis


@pytest.mark.parametrize(
    ("shape", "n_rows", "other", "n_others", "axis"),
    [
        ((9, 9, 2), 9, (9, 2, 2), 2, 1),
        ((9, 9, 9), 9, (9, 9, 2), 2, 2),
        ((2, 2), 2, (2, 3), 3, 1),
        ((9, 9), 9, (9, 9), 2, None),
        ((9, 9), 9, (2, 2), 2, None),
        ((9, 9), 9, (2, 9, 9), 2, None),
        ((9, 1, 1), 1, (9, 2, 1), 2, 1),
        ((1, 5, 1), 1, (1, 5, 1), 2, None),
    ],
    ids=str,
)
def test_two_shapes_show_the_axis(shape, n_rows, other, n_others, axis):
    assert rows_axis(shape, n_rows, Look(n_others, torch.zeros(other))) == axis


def test_one_row_again_and_again_is_constant_along_the_axis_of_the_rows():
    value = torch.arange(4.0)[:, None].expand(4, 4)
    assert rows_axis((4, 4), 4, Look(4, value)) == 1
    assert rows_axis((4, 4), 4, Look(4, value.T)) == 0
    assert rows_axis((4, 4), 4, Look(4, value.T * 1j)) == 0
    assert rows_axis((4, 4), 4, Look(4, value + value.T)) is None
    assert rows_axis((4, 4), 4, Look(4, torch.ones(4, 4))) is None


def test_without_a_look_only_a_single_row_has_an_axis():
    assert rows_axis((4, 4), 4, None) is None
    assert rows_axis((5, 1, 1), 1, None) == 1
    assert rows_axis((5, 2), 1, None) is None


def test_an_error_says_what_was_seen_and_what_to_do():
    error = no_rows_axis((1, 4), 4, Look(2, torch.ones(1, 4)))
    expected = "got shape (1, 4) for 4 rows and (1, 4) for 2 rows: no axis follows"
    assert expected in str(error)
    assert "got shape (3,) for 1 row: no" in str(no_rows_axis((3,), 1, None))
    error = no_rows_axis((8, 4), 4, Look(2, torch.ones(4, 4)))
    assert "axis 0 has 2 entries for each row" in str(error)
