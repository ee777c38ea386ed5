import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge._rows._array_rows import as_ragged, even_rows
from sklearn_torch_bridge._rows._inputs import (
    as_texts,
    distinct_texts,
    kind_of,
)

WORDS = ["a", "b"]
TEXTS = {
    "list": WORDS,
    "tuple": tuple(WORDS),
    "str array": np.array(WORDS),
    "object array": np.array(WORDS, dtype=object),
    "column array": np.array(WORDS, dtype=object)[:, None],
    "string dtype": np.array(WORDS, dtype=np.dtypes.StringDType()),
    "pandas Series": pd.Series(WORDS, index=[7, 7]),
    "pandas category": pd.Series(WORDS, dtype="category"),
    "pandas frame": pd.DataFrame({"text": WORDS}),
    "polars Series": pl.Series(WORDS),
    "polars frame": pl.DataFrame({"text": WORDS}),
    "str subclass": [np.str_("a"), "b"],
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_are_known_in_every_dress(name):
    assert kind_of(TEXTS[name]) == "texts"
    texts = as_texts(TEXTS[name])
    assert texts == WORDS
    assert {type(text) for text in texts} == {str}


@pytest.mark.parametrize(
    ("X", "kind"),
    [
        pytest.param(np.zeros((2, 3)), "array", id="2-D"),
        pytest.param(np.zeros((2, 3, 4)), "array", id="3-D"),
        pytest.param([[1, 2], [3, 4]], "array", id="lists"),
        pytest.param([1.0, 2.0], "array", id="numbers"),
        pytest.param([], "array", id="empty"),
        pytest.param(pd.DataFrame({"a": [1], "b": [2]}), "array", id="frame"),
        pytest.param(pd.DataFrame({"a": [1.5]}), "array", id="column"),
        pytest.param(pl.DataFrame({"a": [1], "b": [2]}), "array", id="polars"),
        pytest.param(torch.zeros(2, 3), "tensor", id="tensor"),
        pytest.param([torch.zeros(3), torch.zeros(3)], "arrays", id="tensors"),
        pytest.param([None, "a"], "texts", id="missing first"),
        pytest.param([np.ones(3), np.ones(3)], "arrays", id="even arrays"),
        pytest.param([np.ones(3), np.ones(2)], "ragged", id="ragged arrays"),
        pytest.param([torch.ones(3, 2), torch.ones(2, 2)], "ragged", id="ragged"),
        pytest.param(pd.Series([np.ones(1), np.ones(2)]), "ragged", id="Series"),
        pytest.param(pd.Series([np.ones(2), np.ones(2)]), "arrays", id="even Series"),
        pytest.param([None, np.ones(2)], "arrays", id="an array is missing"),
        pytest.param(pd.Series([[1, 2], [3, 4]]), "arrays", id="Series of lists"),
        pytest.param(pl.Series([[1, 2], [3]]), "ragged", id="polars lists"),
        pytest.param(pl.DataFrame({"q": [[1.0], [2.0]]}), "arrays", id="polars column"),
    ],
)
def test_kinds_of_input(X, kind):
    assert kind_of(X) == kind


@pytest.mark.parametrize(
    "X", [[None], [float("nan")], [b"a"], [["a", "b"]], [("a", "b")]], ids=str
)
def test_what_is_no_text_is_named_where_a_model_takes_texts(X):
    kind = kind_of(X, takes_any=True)
    assert kind == "texts"
    with pytest.raises((TypeError, ValueError), match="hold str in every row, but row"):
        as_texts(X)


@pytest.mark.parametrize("X", [[None, None], [b"a"], [["a", "b"]]], ids=str)
def test_a_preprocess_gets_rows_of_any_kind(X):
    assert kind_of(X, has_preprocess=True, takes_any=True) == "rows"


@pytest.mark.parametrize("values", [[1.0, np.nan], [np.nan, np.nan]], ids=str)
def test_a_column_of_numbers_is_one_also_where_all_are_missing(values):
    frame = pd.DataFrame({"a": values})
    assert kind_of(frame, has_preprocess=True) == "array"
    assert kind_of(frame, takes_any=True) == "array"


def test_lists_among_arrays_are_rows_like_them():
    given = [np.ones(2), [3, 4.0], pd.Series([5, 6]), (7, None)]
    rows, bad = even_rows(given)
    np.testing.assert_array_equal(rows, [[1, 1], [3, 4], [5, 6], [7, np.nan]])
    assert len(bad) == 0


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (None, "row 1 is missing"),
        ("a", "row 1 is a str"),
        ([1.0, 2.0, 3.0], r"row 1 has shape \(3,\), and another \(2,\)"),
        (np.array(["a", "b"]), "row 1 is of dtype <U1"),
        (np.ones(2) * 1j, "row 1 is of dtype complex128"),
        (np.ma.masked_array([1.0, 2.0], [True, False]), "row 1 has masked values"),
    ],
    ids=["missing", "text", "length", "str", "complex", "masked"],
)
def test_a_row_that_does_not_stack_with_the_others_is_named(row, words):
    with pytest.raises(TypeError, match=words):
        even_rows([np.ones(2), row])
    rows, bad = even_rows([np.ones(2), row], forgiving=True)
    assert (rows.tolist(), bad.tolist()) == ([[1, 1]], [1])


@pytest.mark.parametrize("X", ["text", b"text", 3, iter("ab"), None], ids=str)
def test_what_is_no_sequence_of_rows_is_refused(X):
    with pytest.raises(TypeError, match="one entry a row, got"):
        kind_of(X)


def test_objects_without_preprocess_are_refused_and_with_it_are_rows():
    with pytest.raises(TypeError, match="holds object objects: give a `preprocess`"):
        kind_of([object()])
    assert kind_of([object()], has_preprocess=True) == "rows"
    assert kind_of([{"a": 1}], has_preprocess=True) == "rows"


@pytest.mark.parametrize(
    ("X", "error", "words"),
    [
        (["a", None], ValueError, "row 1 is missing: None. Drop or fill"),
        (["a", float("nan"), np.nan], ValueError, r"row 1 is missing: nan \(2 such"),
        (pd.Series(["a", pd.NA]), ValueError, "row 1 is missing"),
        (pd.Series(["a", None], dtype="str"), ValueError, "row 1 is missing"),
        (pl.Series(["a", None]), ValueError, "row 1 is missing: None"),
        (["a", 3], TypeError, "row 1 is 3"),
        (["a", b"b"], TypeError, "row 1 is b'b'"),
    ],
    ids=["None", "nan", "NA", "pandas str", "polars", "number", "bytes"],
)
def test_a_row_that_is_no_text_is_named(X, error, words):
    with pytest.raises(error, match=words):
        as_texts(X)


def test_equal_texts_are_kept_once():
    assert distinct_texts(["b", "a", "b"])[0] == ["b", "a"]
    assert distinct_texts(["b", "a", "b"])[1].tolist() == [0, 1, 0]
    assert distinct_texts(["b", "a"]) == (["b", "a"], None)


@pytest.mark.parametrize(
    ("X", "error", "words"),
    [
        ([np.ones(2), None, np.ones(3)], TypeError, "row 1 is missing"),
        ([np.ones(2), "a", np.ones(3)], TypeError, "row 1 is a str"),
        ([np.ones((2, 3)), np.ones((3, 4))], ValueError, r"row 1 has shape \(3, 4\)"),
        ([np.ones(2), np.ones(0)], ValueError, r"row 1 has shape \(0,\)"),
        ([np.ones(2), np.ones(())], ValueError, r"row 1 has shape \(\)"),
        ([np.ones(2), np.array([np.nan])], ValueError, "row 1 has NaN or infinity"),
        ([torch.ones(2), torch.tensor([torch.inf])], ValueError, "row 1 has NaN or"),
        ([np.ones(2), np.ones(3) * 1j], ValueError, "row 1 is of dtype complex128"),
        ([torch.ones(2), torch.ones(3) * 1j], ValueError, "is of dtype torch.complex"),
        ([np.ones(2), np.array(["a"])], ValueError, "row 1 is of dtype <U1"),
    ],
    ids=[
        *("missing", "text", "other width", "empty", "number", "NaN", "infinity"),
        *("complex", "complex tensor", "str"),
    ],
)
def test_a_row_that_is_no_array_like_the_others_is_named(X, error, words):
    with pytest.raises(error, match=words):
        as_ragged(X)
    rows, bad = as_ragged(X, forgiving=True)
    assert rows is not None
    assert bad.tolist() == [1]


def test_a_frame_before_fit_is_no_reason_to_warn():
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    extractor = TorchFeatureExtractor(torch.nn.Identity())
    np.testing.assert_array_equal(extractor.transform(frame), frame)
    extractor.fit(frame)
    with pytest.raises(ValueError, match="feature names"):
        extractor.transform(frame.rename(columns={"a": "c"}))


@pytest.mark.parametrize("make", [np.asarray, torch.tensor], ids=["array", "tensor"])
def test_ragged_rows_have_one_dtype_whoever_shares_their_batch(make):
    some = [make([1, 2, 3]), make([0.5, 0.75])]
    rows, _ = as_ragged(some)
    assert {row.dtype for row in rows} == {torch.float64}
    assert [row.tolist() for row in rows] == [[1, 2, 3], [0.5, 0.75]]
    half = torch.tensor([0.5], dtype=torch.float16)
    large, _ = as_ragged([make([2**24 + 1, 70_000]), half])
    assert large[0].tolist() == [2**24 + 1, 70_000]
    narrow = [make([1.0, 2.0]), make([3.0])]
    assert as_ragged(narrow)[0][0] is narrow[0]


def test_ragged_rows_of_any_order_get_one_dtype():
    frozen = np.arange(3)
    frozen.flags.writeable = False
    given = [
        frozen,
        np.arange(4, dtype=">i4")[::-1],
        np.arange(2, dtype=np.uint32),
        np.array([0.5], np.longdouble),
    ]
    rows, _ = as_ragged(given)
    assert [row.tolist() for row in rows] == [[0, 1, 2], [3, 2, 1, 0], [0, 1], [0.5]]
    assert {row.dtype for row in rows} == {torch.float64}


def test_integers_of_several_widths_are_widened_without_those_that_are_bad():
    rows, bad = as_ragged(
        [np.ones(2, np.uint8), np.full(1, -3, np.int16), np.ones(0)], forgiving=True
    )
    assert bad.tolist() == [2]
    assert [row.tolist() for row in rows[:2]] == [[1, 1], [-3]]
    assert rows[0].dtype == rows[1].dtype == torch.int16
