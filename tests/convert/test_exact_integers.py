"""An integer that becomes a float keeps all of its digits, or is named."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from sklearn_torch_bridge import TensorToArray, to_numpy
from sklearn_torch_bridge._convert import find_rounded, integers_among, write_rows

F4, F8 = 2**24, 2**53  # from here on, floats leave out integers
FAR = 2**63
DIGITS = {"f2": 11, "f4": 24, "f8": 53}


@pytest.mark.parametrize("name", DIGITS)
@given(numbers=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_an_integer_is_rounded_if_and_only_if_a_float_is_another(name, numbers):
    found = find_rounded(np.array(numbers), DIGITS[name])
    if name == "f2":  # beyond its range, digits say nothing
        return
    lost = [int(np.dtype(name).type(one)) != one for one in numbers]
    assert found == (lost.index(True) if any(lost) else None)


@given(number=st.integers(0, 2**64 - 1))
def test_integers_without_sign_have_one_digit_more(number):
    found = find_rounded(np.array([number], "u8"), 53)
    assert (found is None) == (int(float(number)) == number)


def tensors(*rows, dtypes=(torch.int64, torch.float32)):
    return [torch.tensor(row, dtype=one) for row, one in zip(rows, dtypes, strict=True)]


LOSSY = {
    "uint64 and int64": lambda: tensors(
        [FAR + 1], [-1], dtypes=(torch.uint64, torch.int64)
    ),
    "int64 and float32": lambda: tensors([F8 + 1], [0.5]),
    "int64 and bfloat16": lambda: tensors(
        [F8 + 1], [0.5], dtypes=(torch.int64, torch.bfloat16)
    ),
    "int64 and float64": lambda: tensors(
        [-F8 - 1], [0.5], dtypes=(torch.int64, torch.float64)
    ),
    "numbers": lambda: [torch.tensor(F8 + 1), torch.tensor(0.5)],
    "arrays": lambda: [np.array([F8 + 1]), np.array([0.5], "f4")],
    "arrays of uint64": lambda: [np.array([FAR + 1], "u8"), np.array([-1])],
    "array and tensor": lambda: [np.array([F8 + 1]), torch.tensor([0.5])],
    "objects": lambda: np.array([*tensors([F8 + 1], [0.5]), None], object)[:2],
    "series": lambda: pd.Series([np.array([F8 + 1]), np.array([0.5])]),
}
TABLES = {
    "lists": lambda: [[F8 + 1, 0.5], [1.0, 2.0]],
    "tuples": lambda: [(F8 + 1, 0.5), (1.0, 2.0)],
    "lists of tensors": lambda: [[torch.tensor(F8 + 1), 0.5], [1.0, 2.0]],
    "lists with uint64": lambda: [[FAR + 1, -1], [1, 1]],
    "frame": lambda: pd.DataFrame({"a": [F8 + 1, 1], "b": [0.5, 2.0]}),
    "frame with uint64": lambda: pd.DataFrame(
        {"a": np.array([FAR + 1, 1], "u8"), "b": [-1, 1]}
    ),
    "frame with float32": lambda: pd.DataFrame(
        {"a": [F8 + 1, 1], "b": np.array([0.5, 2.0], "f4")}
    ),
    "polars": lambda: pl.DataFrame({"a": [F8 + 1, 1], "b": [0.5, 2.0]}),
    "polars with uint64": lambda: pl.DataFrame(
        {"a": pl.Series([FAR + 1, 1], dtype=pl.UInt64), "b": [-1, 1]}
    ),
}
LARGE = {  # which NumPy keeps as objects, and scikit-learn makes floats of
    "large integers": lambda: [[2**70 + 1, 1], [1, 1]],
    "objects": lambda: np.array([[2**70 + 1, 1], [1, 1]], object),
    "nullable": lambda: pd.DataFrame(
        {"a": pd.array([F8 + 1, 1], "Int64"), "b": [0.5, 2.0]}
    ),
    "Decimal": lambda: pd.DataFrame({"a": [Decimal(F8 + 1), Decimal(1)]}),
    "Fraction": lambda: pd.DataFrame({"a": [Fraction(F8 + 1), Fraction(1)]}),
}


@pytest.mark.parametrize("name", LOSSY)
@pytest.mark.parametrize("convert", [to_numpy, TensorToArray().fit_transform])
def test_a_join_rounds_no_integer(name, convert):
    with pytest.raises(
        ValueError, match=r"row 0 has the integer -?9\d+, which float64"
    ):
        convert(LOSSY[name]())


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("convert", [to_numpy, TensorToArray().fit_transform])
def test_mixed_columns_round_no_integer(name, convert):
    with pytest.raises(ValueError, match=r"row 0 has the integer 9\d+, which float64"):
        convert(TABLES[name]())


@pytest.mark.parametrize("name", LARGE)
def test_what_is_larger_than_64_bits_is_not_rounded(name):
    with pytest.raises(ValueError, match=r"row 0 has the integer \d+, which float64"):
        TensorToArray().fit_transform(LARGE[name]())


def test_what_fits_is_converted():
    mixed = tensors([F8, -F8 * 4], [0.5, 1])
    assert to_numpy(mixed).tolist() == [[F8, -F8 * 4], [0.5, 1]]
    assert to_numpy([[F8, 0.5]]).tolist() == [[F8, 0.5]]
    frame = pd.DataFrame({"a": [F4 + 1, 1], "b": [0.5, np.nan]})
    np.testing.assert_array_equal(to_numpy(frame), [[F4 + 1, 0.5], [1, np.nan]])
    whole = TensorToArray().fit_transform([[2**70, 1], [1, 1]])
    assert whole.tolist() == [[2**70, 1], [1, 1]]
    tenth = pd.DataFrame({"a": [Decimal("0.1"), Decimal("NaN")]})
    np.testing.assert_array_equal(
        TensorToArray().fit_transform(tenth), [[0.1], [np.nan]]
    )
    assert to_numpy([1e300, 0.5], dtype="float64").tolist() == [1e300, 0.5]


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.tensor([[1, 2], [3, F4 + 1]]),
        lambda: torch.tensor([[1, 2], [3, F4 + 1]], dtype=torch.int32),
        lambda: np.array([[1, 2], [3, F4 + 1]], "u4"),
        lambda: [torch.tensor([1, 2]), torch.tensor([3, F4 + 1])],
        lambda: [torch.tensor([0.5, 2]), torch.tensor([3, F4 + 1])],
        lambda: [[0.5, 2], [3, F4 + 1]],
        lambda: pd.DataFrame({"a": [0.5, 3], "b": [2, F4 + 1]}),
        lambda: torch.tensor([[1, 2], [3, F4 + 1]]).to_sparse(),
        lambda: sp.csr_array(np.array([[1, 2], [3, F4 + 1]])),
    ],
    ids=[
        *("int64", "int32", "uint32", "rows", "mixed", "lists", "frame"),
        *("sparse", "scipy"),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_a_dtype_that_would_round_an_integer_is_an_error(make, dtype):
    """Ids over 2**24 became those of their neighbours."""
    words = rf"has the integer {F4 + 1}, which {dtype} cannot hold"
    with pytest.raises(ValueError, match=words):
        to_numpy(make(), dtype=dtype)
    if dtype == "float32":
        with pytest.raises(ValueError, match=words):
            TensorToArray(dtype=dtype).fit_transform(make())


def test_the_row_is_that_of_the_whole_array():
    ids = torch.arange(100_000)[:, None].repeat(1, 2)
    ids[70_000, 1] = F4 + 1
    with pytest.raises(ValueError, match=r"^row 70000 has"):
        to_numpy(ids, dtype="float32")
    target = np.zeros((9, 1), "f4")
    lossy = torch.tensor([[1], [F4 + 1]])
    for rows, named in ((slice(4, 6), 5), (np.array([7, 2]), 2)):
        with pytest.raises(ValueError, match=f"^row {named} has"):
            write_rows(target, rows, lossy)


def test_floats_are_rounded_as_ever():
    assert to_numpy(torch.tensor([F4 + 1.0, 0.1], dtype=torch.float64), dtype="f4")[0]
    assert to_numpy([[F4 + 1.0, 0.1]], dtype="float32").tolist()[0][0] == F4


def test_duplicates_of_a_sparse_tensor_are_summed_as_integers():
    where, values = torch.tensor([[0, 0], [0, 0]]), torch.tensor([F8, 1])
    tensor = torch.sparse_coo_tensor(where, values, (1, 1), check_invariants=True)
    assert to_numpy(tensor).toarray().tolist() == [[F8 + 1]]
    with pytest.raises(ValueError, match=f"integer {F8 + 1}, which float64"):
        to_numpy(tensor, dtype="float64")
    small = torch.sparse_coo_tensor(
        where, torch.tensor([100, 100]).char(), (1, 1), check_invariants=True
    )
    with pytest.raises(ValueError, match="200 would overflow"):
        to_numpy(small)


def test_where_integers_were_is_found():
    rows = [[1000, 0.5], [1000.0, np.int64(300)], [1, 2]]
    found = integers_among(rows, np.asarray(rows))
    assert found.tolist() == [[True, False], [False, True], [False, False]]
    assert integers_among([[0.5, 1000.0]], np.array([[0.5, 1000.0]])) is None
    assert integers_among([[1, 1000]], np.array([[1, 1000]])) is None
