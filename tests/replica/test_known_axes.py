"""What of axes is kept, for how long, and for which shapes."""

from sklearn_torch_bridge._replica._known_axes import KnownAxes


def test_rows_are_kept_for_a_run_and_of_a_single_row_beyond_it():
    kept = {}
    known = KnownAxes(kept)
    known.keep_rows("place", 9, 1)
    assert known.rows("place", (9, 9), 9) == 1
    assert KnownAxes(kept).rows("place", (9, 9), 9) is None
    known.keep_rows("place", 1, 2)
    assert KnownAxes(kept).rows("place", (1, 9, 1), 1) == 2
    assert KnownAxes(kept).rows("place", (9, 9, 9), 9) is None


def test_an_earlier_batch_shows_the_axis_unless_it_has_two():
    known = KnownAxes({})
    known.see("place", (4, 3), 4)
    assert known.rows("place", (3, 3), 3) == 0
    assert known.rows("elsewhere", (3, 3), 3) is None
    known.see("place", (1, 1, 4), 1)
    assert known.rows("place", (3, 3, 4), 3) is None


def test_channels_are_kept_by_their_number_where_no_other_axis_has_it():
    kept = {}
    KnownAxes(kept).keep_channels("place", (2, 7, 7, 96), 3)
    known = KnownAxes(kept)
    assert known.channels("place", (9, 4, 5, 96)) == 3
    assert known.channels("place", (96, 4, 5, 96)) == 3
    assert known.channels("place", (2, 96, 7, 7)) is None
    assert known.channels("place", (2, 96, 7, 96)) is None
    known.keep_channels("place", (2, 96, 7, 96), 1)
    assert known.channels("place", (5, 96, 7, 96)) == 1
    assert known.channels("place", (5, 96, 8, 96)) is None
