"""Rows that could not be used are NaN, and listed in one warning."""

from functools import partial

import numpy as np
import pytest
from torch import nn

from sklearn_torch_bridge import (
    BadRowWarning,
    ForwardError,
    TorchFeatureExtractor,
)
from tests.tiny_models import Counting, Failing, Letters, Returning


def limited(limit=40):
    return nn.Sequential(Counting(), Failing(limit))


def test_bad_rows_become_nan_and_are_listed_in_one_warning():
    X = np.arange(64.0)[:, None] % 32
    X[[3, 40, 41]] = 50
    module = limited()
    extractor = TorchFeatureExtractor(module, on_error="nan", batch_size=16)
    with pytest.warns(BadRowWarning, match=r"^rows 3, 40, 41 of .* NaN .*boom") as told:
        Z = extractor.transform(X)
    assert len(told) == 1
    assert told[0].filename == __file__
    assert np.isnan(Z[[3, 40, 41]]).all()
    good = np.delete(np.arange(64), [3, 40, 41])
    np.testing.assert_array_equal(Z[good], X[good])


@pytest.mark.parametrize("method", ["fit", "transform", "fit_transform"])
def test_where_all_rows_are_bad_the_first_reason_is_an_error(method):
    extractor = TorchFeatureExtractor(limited(), on_error="nan", batch_size=2)
    with pytest.raises(ForwardError, match="boom"):
        getattr(extractor, method)(np.full((3, 1), 50.0))
    with pytest.raises(ValueError, match="none of its 2 can"):
        getattr(extractor, method)(np.full((2, 1), np.nan))


def test_an_integer_result_has_no_place_for_a_bad_row():
    X = np.array([[1.0, 2.0], [np.nan, 0.0]])
    model = Returning(lambda x: x.argmax(1))
    extractor = TorchFeatureExtractor(model, dtype=None, on_error="nan")
    with pytest.raises(
        ValueError, match=r"model gives int64\. Ask for dtype='float64'"
    ):
        extractor.transform(X)


def test_a_fitted_extractor_knows_what_bad_rows_become(tmp_path):
    X = np.full((3, 2), np.nan)
    extractor = TorchFeatureExtractor(nn.Linear(2, 5), on_error="nan")
    with pytest.raises(ValueError, match=r"none of its 3 can\. .* learnt in `fit`"):
        extractor.transform(X)
    extractor.fit(np.ones((1, 2)))
    path = tmp_path / "Z.npy"
    for run in (extractor.transform, partial(extractor.transform_to_file, path=path)):
        with pytest.warns(BadRowWarning, match="rows 0 to 2 of"):
            Z = run(X)
        np.testing.assert_array_equal(Z, np.full((3, 5), np.nan, np.float32))


@pytest.mark.parametrize(
    ("X", "words"),
    [
        (["a", b"b", "cc"], r"str in every row, but row 1 is b'b'\)"),
        (["a", None, "cc"], r"row 1 is missing: None"),
        ([np.ones((1, 2)), np.ones((1, 3)), "a"], "row 2 is a str"),
        ([[1.0], [np.ma.masked], [2.0]], "row 1 has masked values"),
        (np.array([[1.0], [np.nan]]), "NaN or infinity, first in row 1"),
    ],
    ids=["bytes", "None", "text", "masked", "NaN"],
)
def test_a_bad_row_says_what_is_wrong_with_it(X, words):
    model, preprocess = nn.Identity(), None
    if isinstance(X[0], str):
        model, preprocess = nn.Embedding(200, 1), Letters()
    elif isinstance(X[0], np.ndarray):
        model = nn.AdaptiveAvgPool1d(1)
    extractor = TorchFeatureExtractor(model, preprocess=preprocess, on_error="nan")
    with pytest.warns(BadRowWarning, match=words):
        extractor.transform(X)
