import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge._inputs import (
    as_ragged,
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
        pytest.param([torch.zeros(3), torch.zeros(3)], "tensors", id="tensors"),
        pytest.param([None, "a"], "texts", id="missing first"),
        pytest.param([np.ones(3), np.ones(3)], "array", id="even arrays"),
        pytest.param([np.ones(3), np.ones(2)], "ragged", id="ragged arrays"),
        pytest.param([torch.ones(3, 2), torch.ones(2, 2)], "ragged", id="ragged"),
        pytest.param(pd.Series([np.ones(1), np.ones(2)]), "ragged", id="Series"),
    ],
)
def test_kinds_of_input(X, kind):
    assert kind_of(X) == kind


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
    ],
    ids=["missing", "text", "other width", "empty", "number"],
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
