"""Windows of rows: which of which, and what they are called."""

from fractions import Fraction

import numpy as np

from sklearn_torch_bridge._results import Spans


def spans_of(**options):
    starts, stops = np.array([0, 0, 3, 6]), np.array([4, 5, 8, 9])
    return Spans(np.array([1, 3]), starts, stops, **options)


def test_weights_are_all_that_is_in_a_window():
    heads = np.array([0, 1, 1, 1])
    spans = spans_of(heads=heads, tails=2 * heads)
    assert spans.weights.tolist() == [4, 8, 8, 6]
    assert spans.n_tokens(3) == 6


def test_columns_of_windows_have_their_place_in_the_row():
    """A row of 9 has one token before its content and two behind it."""
    heads = np.array([0, 1, 1, 1])
    spans = spans_of(heads=heads, tails=2 * heads)
    columns = np.arange(8)[None]
    places = columns + spans.shifts(np.array([1, 2, 3]), columns)
    assert places[0].tolist() == [0, 1, 2, 3, 4, 5, 10, 11]
    assert places[1].tolist() == [0, 4, 5, 6, 7, 8, 10, 11]
    assert places[2, :6].tolist() == [0, 7, 8, 9, 10, 11]


def test_a_part_shares_the_weights_and_has_its_own_names():
    spans = spans_of(unit="tokens")
    part = spans.part(1, 2)
    spans.weights[2] = 70
    assert part.weights.tolist() == [5, 70, 3]
    assert part.place(1) == "window 2 of {}, tokens 3 to 8"


def test_outputs_of_several_values_are_counted_from_above():
    assert spans_of(scale=Fraction(1, 2)).n_tokens(1) == 3
