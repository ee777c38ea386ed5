"""Checks of options name the option, and what came instead."""

import numpy as np
import pytest

from sklearn_torch_bridge import TensorToArray
from sklearn_torch_bridge._checks import (
    check_dtype_name,
    check_options,
    check_positive_int,
    one_of,
)


@pytest.mark.parametrize("value", [1, np.int64(7)], ids=repr)
def test_whole_numbers_from_one_pass(value):
    assert check_positive_int("n", value) == int(value)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        *((0, ValueError), (-1, ValueError), (True, ValueError)),
        *((1.0, TypeError), ("1", TypeError), (None, TypeError)),
    ],
    ids=repr,
)
def test_other_numbers_are_refused(value, error):
    with pytest.raises(error, match="`n` must be an int of at least 1, got"):
        check_positive_int("n", value)


def test_dtypes_of_numbers_pass_and_others_are_refused():
    assert check_dtype_name("dtype", None) is None
    assert check_dtype_name("dtype", "float16") == np.float16
    for wrong in ("text", "U3", object, "datetime64[s]"):
        with pytest.raises(ValueError, match="`dtype` must be a NumPy dtype of numb"):
            check_dtype_name("dtype", wrong)


def test_a_choice_lists_what_there_is():
    check = one_of("keep", None)
    check("sparse", "keep")
    check("sparse", None)
    with pytest.raises(ValueError, match="`sparse` must be one of 'keep', None, got 0"):
        check("sparse", 0)


def test_each_option_goes_to_its_check():
    calls = []
    check_options(TensorToArray(copy=None), {"copy": lambda *call: calls.append(call)})
    assert calls == [("copy", None)]
