"""Check `X` as scikit-learn does, and make it rows for the model."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, validate_data

from sklearn_torch_bridge._errors import ConversionError
from sklearn_torch_bridge._inputs import (
    ArrayFeed,
    RowFeed,
    TensorFeed,
    as_rows,
    as_texts,
    check_even,
    distinct_texts,
    kind_of,
    stack_tensors,
)
from sklearn_torch_bridge._replica import float_dtype
from sklearn_torch_bridge._tokens import TokenFeed, is_tokenizer
from sklearn_torch_bridge._types import Feed
from sklearn_torch_bridge.models import LoadedModel

__all__ = ["made_up", "make_feed"]

_TWO_AXES = 2


def make_feed(
    estimator: Any,
    X: Any,
    loaded: LoadedModel,
    *,
    reset: bool,
    only_first: bool = False,
) -> Feed:
    """Check all of `X`, and give its rows (or only the first) for the model.

    With `reset` the estimator learns the number and names of the columns, elsewhere
    it compares them.
    """
    kept = slice(0, 1) if only_first else slice(None)
    preprocess = estimator.preprocess
    kind = kind_of(X, has_preprocess=preprocess is not None)
    takes_texts = is_tokenizer(preprocess) or loaded.preprocess is not None
    dtype = float_dtype(loaded.module)
    if kind == "texts" or (takes_texts and _is_empty_column(X)):
        _check_frame(estimator, X, reset=reset)
        texts = as_texts(X)
        if reset and not texts:
            raise ValueError(_no_rows(estimator))
        return _text_feed(texts[kept], preprocess, loaded)
    if _is_empty_column(X) and not reset:
        return RowFeed([], preprocess or list, dtype)
    if is_tokenizer(preprocess):
        msg = f"`X` must hold str for a tokenizer, got {type(X).__name__} of others."
        raise TypeError(msg)
    if kind == "rows":
        entries = as_rows(X)
        return RowFeed(entries[kept], preprocess, dtype)
    if kind in ("tensor", "tensors"):
        tensor = X if kind == "tensor" else stack_tensors(X)
        tensor = _check_tensor(estimator, tensor, reset=reset)[kept]
        return (
            RowFeed(tensor, preprocess, dtype)
            if preprocess
            else TensorFeed(tensor, dtype)
        )
    array = _check_array(estimator, X, reset=reset)[kept]
    return RowFeed(array, preprocess, dtype) if preprocess else ArrayFeed(array, dtype)


def made_up(feed: Feed) -> Feed:
    """Give a feed of one made-up row like those of `feed`, which has none."""
    if isinstance(feed, (ArrayFeed, TensorFeed, TokenFeed)):
        return feed.made_up()
    msg = (
        "`X` has no rows, and how wide the result is cannot be told before a row was "
        "seen: call `fit` first."
    )
    raise ValueError(msg)


def _text_feed(texts: list[str], preprocess: Any, loaded: LoadedModel) -> Feed:
    distinct, origin = distinct_texts(texts)
    chosen = preprocess or loaded.preprocess
    if chosen is None:
        msg = (
            "`X` holds str, and `model` takes tensors: give a `preprocess`, such as "
            "the model's tokenizer, or a model that brings one ('hf:NAME_OR_PATH')."
        )
        raise TypeError(msg)
    if is_tokenizer(chosen):
        return TokenFeed(distinct, origin, tokenizer=chosen, model=loaded.module)
    if preprocess is None and loaded.lengths is not None:
        lengths = loaded.lengths(distinct)
    else:
        lengths = np.array([len(text) for text in distinct], np.int64)
    return RowFeed(
        distinct, chosen, float_dtype(loaded.module), origin=origin, lengths=lengths
    )


def _check_array(estimator: BaseEstimator, X: Any, *, reset: bool) -> NDArray[Any]:
    """Check a numeric array or frame of two axes or more; its dtype stays."""
    check_even(X)
    _check_frame(estimator, X, reset=reset)
    array: NDArray[Any] = check_array(
        X,
        dtype="numeric",
        allow_nd=True,
        ensure_all_finite=estimator.preprocess is None,
        ensure_min_samples=1 if reset else 0,
        estimator=estimator,
        input_name="X",
    )
    if array.ndim == _TWO_AXES and not hasattr(X, "columns"):
        validate_data(estimator, array, reset=reset, skip_check_array=True)
    return array


def _check_frame(estimator: BaseEstimator, X: Any, *, reset: bool) -> None:
    """Learn or compare the names and the number of the columns of a frame."""
    if hasattr(X, "columns"):
        validate_data(estimator, X, reset=reset, skip_check_array=True)


def _check_tensor(
    estimator: BaseEstimator, tensor: torch.Tensor, *, reset: bool
) -> torch.Tensor:
    """Check a tensor where it is, in scikit-learn's words."""
    if tensor.layout is not torch.strided or tensor.is_complex():
        msg = (
            "`X` must be a dense tensor of real numbers, got "
            f"{tensor.layout} {tensor.dtype}."
        )
        raise ConversionError(msg)
    if tensor.ndim < _TWO_AXES:
        msg = (
            f"Expected 2D array, got {tensor.ndim}D tensor instead. Reshape your data "
            "using X.reshape(-1, 1) if it has one feature, X.reshape(1, -1) if it is "
            "one row."
        )
        raise ValueError(msg)
    if reset and not len(tensor):
        raise ValueError(_no_rows(estimator))
    if estimator.preprocess is None and not bool(torch.isfinite(tensor).all()):
        msg = "Input X contains NaN or infinity."
        raise ValueError(msg)
    if tensor.ndim == _TWO_AXES:
        validate_data(estimator, tensor, reset=reset, skip_check_array=True)
    return tensor


def _no_rows(estimator: BaseEstimator) -> str:
    return (
        "Found array with 0 sample(s) while a minimum of 1 is required by "
        f"{type(estimator).__name__}."
    )


def _is_empty_column(X: Any) -> bool:
    """Tell an empty list, Series or 1-D array: nothing says what it would hold."""
    return getattr(X, "ndim", 1) == 1 and hasattr(X, "__len__") and len(X) == 0
