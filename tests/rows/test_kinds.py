"""Every `X` is of one kind, told by its type or its first entry; or it is refused."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import torch
from torch import nn

from sklearn_torch_bridge import BadRowWarning, ForwardError, TorchFeatureExtractor
from sklearn_torch_bridge._rows._kinds import KINDS, kind_of
from tests.rows import given_rows

WORDS = ["a", "b"]
STACKED, RAGGED = "arrays of one shape", "arrays of different lengths"


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
    given = given_rows(TEXTS[name])
    assert kind_of(given).name == "texts"
    texts = list(kind_of(given).check(given).values)
    assert texts == WORDS
    assert {type(text) for text in texts} == {str}


@pytest.mark.parametrize(
    ("X", "kind"),
    [
        pytest.param(np.zeros((2, 3)), "an array", id="2-D"),
        pytest.param(np.zeros((2, 3, 4)), "an array", id="3-D"),
        pytest.param([[1, 2], [3, 4]], "an array", id="lists"),
        pytest.param([1.0, 2.0], "an array", id="numbers"),
        pytest.param([], "no rows", id="empty"),
        pytest.param(pd.DataFrame({"a": [1], "b": [2]}), "an array", id="frame"),
        pytest.param(pd.DataFrame({"a": [1.5]}), "an array", id="column"),
        pytest.param(pl.DataFrame({"a": [1], "b": [2]}), "an array", id="polars"),
        pytest.param(torch.zeros(2, 3), "a tensor", id="tensor"),
        pytest.param([torch.zeros(3), torch.zeros(3)], STACKED, id="tensors"),
        pytest.param([None, "a"], "texts", id="missing first"),
        pytest.param([np.ones(3), np.ones(3)], STACKED, id="even arrays"),
        pytest.param([np.ones(3), np.ones(2)], RAGGED, id="ragged arrays"),
        pytest.param(
            [torch.ones(3, 2), torch.ones(2, 2)],
            RAGGED,
            id="ragged",
        ),
        pytest.param(
            pd.Series([np.ones(1), np.ones(2)]),
            RAGGED,
            id="Series",
        ),
        pytest.param(pd.Series([np.ones(2), np.ones(2)]), STACKED, id="even Series"),
        pytest.param([None, np.ones(2)], STACKED, id="an array is missing"),
        pytest.param(pd.Series([[1, 2], [3, 4]]), STACKED, id="Series of lists"),
        pytest.param(pl.Series([[1, 2], [3]]), RAGGED, id="polars lists"),
        pytest.param(
            pl.DataFrame({"q": [[1.0], [2.0]]}),
            STACKED,
            id="polars column",
        ),
    ],
)
def test_kinds_of_input(X, kind):
    assert kind_of(given_rows(X)).name == kind


@pytest.mark.parametrize(
    "X", [[None], [float("nan")], [b"a"], [["a", "b"]], [("a", "b")]], ids=str
)
def test_what_is_no_text_is_named_where_a_model_takes_texts(X):
    given = given_rows(X, brings=True)
    assert kind_of(given).name == "texts"
    with pytest.raises((TypeError, ValueError), match="hold str in every row, but row"):
        kind_of(given).check(given)


@pytest.mark.parametrize("X", [[None, None], [b"a"], [["a", "b"]]], ids=str)
def test_a_preprocess_gets_rows_of_any_kind(X):
    assert (
        kind_of(given_rows(X, preprocess=list, brings=True)).name
        == "rows for `preprocess`"
    )


@pytest.mark.parametrize("values", [[1.0, np.nan], [np.nan, np.nan]], ids=str)
def test_a_column_of_numbers_is_one_also_where_all_are_missing(values):
    frame = pd.DataFrame({"a": values})
    assert kind_of(given_rows(frame, preprocess=list)).name == "an array"
    assert kind_of(given_rows(frame, brings=True)).name == "an array"


@pytest.mark.parametrize("X", ["text", b"text", 3, iter("ab"), None], ids=str)
def test_what_is_no_sequence_of_rows_is_refused(X):
    with pytest.raises(TypeError, match="one entry a row, got"):
        kind_of(given_rows(X))


def test_objects_without_preprocess_are_refused_and_with_it_are_rows():
    given = given_rows([object()])
    with pytest.raises(TypeError, match="holds object objects: give a `preprocess`"):
        kind_of(given).check(given)
    name = kind_of(given_rows([object()], preprocess=list)).name
    assert name == "rows for `preprocess`"
    name = kind_of(given_rows([{"a": 1}], preprocess=list)).name
    assert name == "rows for `preprocess`"


def test_each_kind_is_in_the_table_once_and_says_what_it_is():
    names = [kind.name for kind in KINDS]
    assert len(set(names)) == len(names)
    assert all(type(kind).__doc__ for kind in KINDS)
    assert kind_of(given_rows(np.ones((1, 1)))) is KINDS[-1]


def freed(tensor):
    tensor.untyped_storage().resize_(0)
    return tensor


def masked():
    return np.ma.masked_array([1.0, 2.0, 3.0], [True, False, False])


HIDDEN = {
    "tensor, freed": lambda: freed(torch.ones(2, 3)),
    "tensors, freed": lambda: [torch.ones(3), freed(torch.ones(3))],
    "ragged, freed": lambda: [torch.ones(2), freed(torch.ones(3))],
    "column, freed": lambda: {"input": freed(torch.ones(2, 3))},
    "tensors of a column, freed": lambda: {"input": [freed(torch.ones(3))]},
    "examples, freed": lambda: [(freed(torch.ones(3)), 0)],
    "array, masked": lambda: np.ma.masked_array(
        np.ones((1, 3)), [[True, False, False]]
    ),
    "arrays, masked": lambda: [np.ones(3), masked()],
    "ragged, masked": lambda: [np.ones(2), masked()],
    "column, masked": lambda: {"input": np.ma.masked_array([[1.0]], [[True]])},
    "examples, masked": lambda: [(masked(), 0), (masked(), 1)],
}


@pytest.mark.parametrize("name", HIDDEN)
def test_values_that_are_masked_or_freed_are_refused_in_every_kind(name):
    """Read as they lie, freed memory ends the process, and masked values count."""
    extractor = TorchFeatureExtractor(nn.Identity())
    words = r"masked|freed or resized"
    with pytest.raises((TypeError, ValueError, ForwardError), match=words):
        extractor.transform(HIDDEN[name]())


BAD_ROWS = {
    "array": lambda X: X,
    "rows": list,
    "tensor": torch.tensor,
    "tensors": lambda X: list(torch.tensor(X)),
    "ragged": lambda X: [*X[:2], np.ones(4), *X[2:]],
    "sparse": scipy.sparse.csr_array,
    "column": lambda X: {"input": X},
    "frame": pd.DataFrame,
    "examples": lambda X: [(row, 0) for row in X],
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_row_that_is_not_finite_is_refused_or_becomes_nan_in_every_kind(name):
    X = np.arange(12.0).reshape(4, 3)
    X[3, 1] = np.nan
    given = BAD_ROWS[name](X)
    n_rows = 5 if name == "ragged" else 4
    extractor = TorchFeatureExtractor(nn.Identity(), pooling="mean")
    with pytest.raises((ValueError, ForwardError), match="NaN"):
        extractor.transform(given)
    extractor.set_params(on_error="nan", pooling=lambda hidden, mask: hidden[:, :2])
    with pytest.warns(BadRowWarning, match=f"^row {n_rows - 1} of"):
        Z = extractor.transform(given)
    np.testing.assert_array_equal(
        np.isnan(Z).any(axis=1), np.arange(n_rows) == n_rows - 1
    )
