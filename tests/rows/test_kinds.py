"""Every `X` is of one kind, told by its type or its first entry; or it is refused."""

from collections import deque

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
from tests.tiny_models import Items

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


@pytest.mark.parametrize(
    "X", ["text", b"text", 3, iter("ab"), None], ids=lambda X: type(X).__name__
)
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


def objects(*values):
    found = np.empty(len(values), object)
    for place, value in enumerate(values):
        found[place] = value
    return found


def first_two(hidden, _):
    return hidden.flatten(1)[:, :2]


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
    **{
        f"{where}, {what}": lambda dress=dress, make=make: dress(make())
        for what, make in {
            "freed": lambda: freed(torch.ones(3)),
            "freed number": lambda: freed(torch.ones(())),
            "meta": lambda: torch.ones(3, device="meta"),
            "masked": masked,
        }.items()
        for where, dress in {
            "lists": lambda one: [[one], [one]],
            "tuples": lambda one: [(torch.ones(3),), (one,)],
            "lists in a column": lambda one: {"input": [[one], [one]]},
            "objects": lambda one: objects([one], [one]),
            "axes of objects": lambda one: objects(one, one).reshape(1, 2),
            "series": lambda one: pd.Series([[one], [one]]),
            "frame": lambda one: pd.DataFrame({"a": [1.0], "b": objects(one)}),
            "deque": lambda one: deque([[one], [one]]),
            "Dataset of lists": lambda one: Items([[[one]], [[one]]]),
            "Dataset of mappings": lambda one: Items([{"input": [one]}] * 2),
            "examples of lists": lambda one: [([one], 0), ([one], 1)],
        }.items()
    },
}


@pytest.mark.parametrize("name", HIDDEN)
def test_values_that_are_masked_or_freed_are_refused_in_every_kind(name):
    """Read as they lie, freed memory ends the process, and masked values count."""
    extractor = TorchFeatureExtractor(nn.Identity())
    words = r"masked|freed or resized|meta tensor"
    for run in (extractor.transform, extractor.fit):
        with pytest.raises((TypeError, ValueError, ForwardError), match=words):
            run(HIDDEN[name]())


@pytest.mark.parametrize(
    "make", [masked, lambda: freed(torch.ones(3))], ids=["masked", "freed"]
)
@pytest.mark.parametrize(
    "dress",
    [
        pytest.param(lambda one: [[np.ones(3)], [one], [np.ones(3)]], id="lists"),
        pytest.param(lambda one: ([np.ones(3)], [one], [np.ones(3)]), id="tuple"),
        pytest.param(
            lambda one: objects([np.ones(3)], [one], [np.ones(3)]), id="objects"
        ),
        pytest.param(lambda one: [np.ones(3), one, np.ones(3)], id="arrays"),
        pytest.param(lambda one: [np.ones(3), one, np.ones(2)], id="ragged"),
    ],
)
def test_a_row_whose_values_are_not_there_becomes_nan_alone(dress, make):
    extractor = TorchFeatureExtractor(nn.Flatten(), on_error="nan", pooling=first_two)
    with pytest.warns(BadRowWarning, match="^row 1 of"):
        Z = extractor.transform(dress(make()))
    assert np.isnan(Z).any(axis=1).tolist() == [False, True, False]


def test_rows_of_which_none_can_be_used_are_an_error_that_says_so():
    extractor = TorchFeatureExtractor(nn.Identity(), on_error="nan")
    for X in ([masked(), masked()], [freed(torch.ones(3))], [[masked()]]):
        with pytest.raises(
            ValueError, match=r"must hold a row that can be used|0 samp"
        ):
            extractor.transform(X)


def test_a_preprocess_gets_masks_and_no_freed_memory():
    def filled(rows):
        return np.stack([np.ma.filled(row, 7.0) for row in rows])

    extractor = TorchFeatureExtractor(nn.Identity(), preprocess=filled)
    assert extractor.transform([masked()]).tolist() == [[7, 2, 3]]
    for X in ([[freed(torch.ones(3))]], [{"a": [freed(torch.ones(3))]}]):
        with pytest.raises(ForwardError, match=r"row 0: .*freed or resized"):
            extractor.transform(X)


@pytest.mark.parametrize(
    "made",
    [
        lambda: masked()[None],
        lambda: freed(torch.ones(1, 3)),
        lambda: torch.ones(1, 3, device="meta"),
    ],
    ids=["masked", "freed", "meta"],
)
@pytest.mark.parametrize(
    "dress",
    [lambda one: one, lambda one: (one,), lambda one: {"input": one}],
    ids=["one", "tuple", "mapping"],
)
def test_what_a_preprocess_returns_must_be_there(made, dress):
    extractor = TorchFeatureExtractor(nn.Identity(), preprocess=lambda _: dress(made()))
    words = r"row 0: .*(masked|freed or resized|meta)"
    with pytest.raises(ForwardError, match=words):
        extractor.transform(["a"])


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


NO_ROWS = {
    "missing": None,
    "nan": float("nan"),
    "a text": "ab",
    "with a text": ["a", 1.0],
    "with a missing value": [None, 1.0],
    "a number": 7.0,
    "a set": {1.0, 2.0},
    "another shape": [[1.0, 2.0]],
    "an object": object(),
}


AMONG_LISTS = {
    "masked": np.ma.array([1.0, 2.0], mask=[True, False]),
    "meta": torch.empty(2, device="meta"),
    "freed": freed(torch.ones(2)),
}


@pytest.mark.parametrize("bad", AMONG_LISTS)
def test_an_array_among_lists_is_looked_at_before_it_is_read(bad):
    X = [[1.0, 2.0], AMONG_LISTS[bad], [3.0, 4.0]]
    extractor = TorchFeatureExtractor(nn.Identity(), on_error="nan")
    with pytest.warns(BadRowWarning, match="row 1 of"):
        Z = extractor.transform(X)
    np.testing.assert_array_equal(Z, [[1, 2], [np.nan, np.nan], [3, 4]])
    with pytest.raises((TypeError, ValueError), match="row 1"):
        extractor.set_params(on_error="raise").transform(X)


@pytest.mark.parametrize("make", [list, tuple], ids=["lists", "tuples"])
@pytest.mark.parametrize("bad", NO_ROWS)
def test_among_rows_that_are_lists_one_that_is_none_is_bad_alone(make, bad):
    X = make([make([1.0, 2.0]), NO_ROWS[bad], make([3, 4])])
    extractor = TorchFeatureExtractor(nn.Identity(), pooling="flatten", on_error="nan")
    with pytest.warns(BadRowWarning, match="row 1 of"):
        Z = extractor.fit_transform(X)
    np.testing.assert_array_equal(Z, [[1, 2], [np.nan, np.nan], [3, 4]])
    with pytest.raises((TypeError, ValueError)):
        extractor.set_params(on_error="raise").transform(X)


MIXED = {
    "lists": lambda big: [[0.5, 2.0], [1.0, big]],
    "arrays": lambda big: [np.array([0.5, 2.0]), np.array([1, big])],
    "short arrays": lambda big: [np.array([0.5, 2.0], "f4"), np.array([1, big])],
    "tensors": lambda big: [torch.tensor([0.5, 2.0]), torch.tensor([1, big])],
    "ragged arrays": lambda big: [np.ones(3), np.array([1, big])],
    "ragged tensors": lambda big: [torch.ones(3), torch.tensor([1, big])],
    "series": lambda big: pd.Series([np.array([0.5, 2.0]), np.array([1, big])]),
    "frame": lambda big: pd.DataFrame({"a": [0.5, 1.0], "b": [2, big]}),
    "polars": lambda big: pl.DataFrame({"a": [0.5, 1.0], "b": [2, big]}),
}


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize(
    ("model", "most"),
    [(nn.Linear(1, 1), 2**24), (nn.Linear(1, 1).double(), 2**53)],
    ids=["float32", "float64"],
)
def test_integers_among_floats_are_not_rounded_for_a_model(name, model, most):
    class First(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = model

        def forward(self, x):
            return x[:, :2] * 1

    extractor = TorchFeatureExtractor(First(), dtype="float64")
    assert extractor.transform(MIXED[name](most))[1].tolist() == [1, most]
    with pytest.raises(ValueError, match=f"row 1 has the integer {most + 1}, which"):
        extractor.transform(MIXED[name](most + 1))


def test_an_integer_that_a_model_cannot_hold_may_become_nan():
    extractor = TorchFeatureExtractor(nn.Linear(2, 1), on_error="nan")
    with pytest.warns(BadRowWarning, match="^row 1 of"):
        Z = extractor.transform(MIXED["frame"](2**24 + 1))
    assert np.isnan(Z[:, 0]).tolist() == [False, True]


def test_integers_that_a_model_returns_are_not_rounded():
    class Ids(nn.Module):
        def forward(self, x):
            return x * 1

    extractor = TorchFeatureExtractor(Ids(), batch_size=2)
    X = np.array([[1], [2], [2**24 + 1]])
    with pytest.raises(ValueError, match=f"row 2 has the integer {2**24 + 1}, which"):
        extractor.transform(X)
    exact = extractor.set_params(dtype="int64").transform(X)
    assert exact.ravel().tolist() == [1, 2, 2**24 + 1]
