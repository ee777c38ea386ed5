"""The warning of sound whose rate is below the model's."""

import warnings

import numpy as np
import pytest

from sklearn_torch_bridge._estimators._low_rates import warn_of_low_rates
from sklearn_torch_bridge._run import BadRow


def test_rows_and_rates_are_those_of_the_caller():
    low_rates = {2: (11_025, 16_000), 0: (8_000, 16_000)}
    words = (
        r"rows 1, 5 of `X` has a sampling rate of 8000 to 11025 Hz, below the 16000 "
        r"Hz of the model: .* nothing above 4000 Hz"
    )
    with pytest.warns(UserWarning, match=words):
        warn_of_low_rates(low_rates, lambda rows: rows * 2 + 1, [])


def test_bad_rows_are_left_out():
    low_rates = {0: (8_000, 16_000), 1: (8_000, 16_000)}
    bad = [BadRow(np.array([row]), ValueError()) for row in (0, 1)]
    with pytest.warns(UserWarning, match="the sound of row 1 of"):
        warn_of_low_rates(low_rates, lambda rows: rows, bad[:1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_low_rates(low_rates, lambda rows: rows, bad)
        warn_of_low_rates({}, lambda rows: rows, [])
