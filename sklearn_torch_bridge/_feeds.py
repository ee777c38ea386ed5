"""Check `X` as scikit-learn does, and make it rows for the model."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, validate_data

from sklearn_torch_bridge._errors import ConversionError
from sklearn_torch_bridge._inputs import (
    Kind,
    as_ragged,
    as_rows,
    as_texts,
    check_even,
    distinct_texts,
    find_wrong_texts,
    kind_of,
    stack_tensors,
)
from sklearn_torch_bridge._replica import float_dtype
from sklearn_torch_bridge._rows import (
    ArrayFeed,
    RaggedFeed,
    RowFeed,
    SubsetFeed,
    TensorFeed,
)
from sklearn_torch_bridge._tokens import TokenFeed, is_tokenizer
from sklearn_torch_bridge._types import Feed, Indices
from sklearn_torch_bridge.models import LoadedModel

__all__ = ["CheckedRows", "check_rows", "made_up", "make_feed"]

_TWO_AXES = 2
_FLOATS = frozenset({np.dtype(np.float32), np.dtype(np.float64)})


@dataclass(frozen=True)
class CheckedRows:
    """All of `X`, checked, before a model has been loaded for it.

    `values` holds each row that may run, texts once each; `origin` tells for each row
    of `X` which of them it is (-1: none); None where they are the same. `bad` are the
    rows of `X` that no model could take, with `on_error="nan"`.
    """

    kind: Kind
    values: Any
    n_samples: int
    origin: Indices | None = None
    bad: Indices = field(default_factory=lambda: np.empty(0, np.intp))

    def __len__(self) -> int:
        return len(self.values)

    def which_may_run(self) -> Indices:
        """Name the `values` that some row of `X` shows."""
        if self.origin is None:
            return np.arange(len(self.values))
        return np.unique(self.origin[self.origin >= 0])

    def merged(self, contents: Sequence[bytes]) -> "CheckedRows":
        """Let equal rows of an array stand for each other; texts are distinct."""
        first: dict[bytes, int] = {}
        same = np.array(
            [first.setdefault(own, row) for row, own in enumerate(contents)]
        )
        if len(first) == len(contents):
            return self
        origin = self.origin
        merged = same if origin is None else np.where(origin < 0, -1, same[origin])
        return replace(self, origin=merged)

    def without(self, which: Indices, finished: NDArray[np.bool_]) -> Indices:
        """Leave out `values` of which every row of `X` is finished."""
        wanted = ~finished
        if self.origin is None:
            return which[wanted[which]]
        left = np.zeros(len(self.values), bool)
        left[self.origin[wanted & (self.origin >= 0)]] = True
        return which[left[which]]

    def origin_of(self, which: Indices | None) -> Indices | None:
        """Tell for each row of `X` which row of a feed of `which` it is; -1: none."""
        if which is None:
            return self.origin
        places = np.full(len(self.values) + 1, -1)  # the last for origin -1
        places[which] = np.arange(len(which))
        return places[:-1] if self.origin is None else places[self.origin]

    def row(self, row: int) -> "CheckedRows":
        """Give a single one of `values`."""
        return CheckedRows(self.kind, self.values[row : row + 1], 1)


def check_rows(estimator: Any, X: Any, *, reset: bool) -> CheckedRows:
    """Check all of `X`.

    With `reset` the estimator learns the number and names of the columns, elsewhere
    it compares them.
    """
    preprocess = estimator.preprocess
    kind = kind_of(X, has_preprocess=preprocess is not None)
    forgiving = estimator.on_error == "nan"
    if _is_empty_column(X):
        if reset:
            raise ValueError(_no_rows(estimator))
        return CheckedRows("empty", [], 0)
    if kind == "texts":
        _check_frame(estimator, X, reset=reset)
        return _checked_texts(X, forgiving=forgiving)
    if is_tokenizer(preprocess):
        msg = f"`X` must hold str for a tokenizer, got {type(X).__name__} of others."
        raise TypeError(msg)
    if kind == "rows":
        entries = as_rows(X)
        return CheckedRows(kind, entries, len(entries))
    if kind == "ragged":
        arrays, bad = as_ragged(X, forgiving=forgiving)
        return _without_bad(kind, arrays, bad)
    if kind in ("tensor", "tensors"):
        tensor = X if kind == "tensor" else stack_tensors(X)
        return _checked_tensor(estimator, tensor, reset=reset)
    return _checked_array(estimator, X, reset=reset)


def make_feed(
    checked: CheckedRows,
    estimator: Any,
    loaded: LoadedModel,
    which: Indices | None = None,
) -> Feed:
    """Make rows of the model of what was checked: all of `values`, or only `which`."""
    preprocess, kind = estimator.preprocess, checked.kind
    dtype = float_dtype(loaded.module)
    origin = checked.origin_of(which)
    values = checked.values
    if which is not None and isinstance(values, list):
        values, which = [values[row] for row in which], None
    if kind == "texts":
        forgiving = estimator.on_error == "nan"
        return _text_feed(values, origin, preprocess, loaded, forgiving=forgiving)
    feed: Feed
    if preprocess is not None or kind in ("rows", "empty"):
        chosen = preprocess or loaded.preprocess or list
        feed = RowFeed(
            values, chosen, dtype, origin=origin if which is None else checked.origin
        )
    elif kind == "ragged":
        feed = RaggedFeed(values, dtype, loaded.module, origin=origin)
    elif kind == "array":
        feed = ArrayFeed(values, dtype)
    else:
        feed = TensorFeed(values, dtype)
    return feed if which is None else SubsetFeed(feed, which)


def made_up(checked: CheckedRows, estimator: Any, loaded: LoadedModel) -> Feed:
    """Give one row whose outputs have the shapes of those of `X`, which has none."""
    if checked.kind == "array":
        row = np.zeros((1, *checked.values.shape[1:]), checked.values.dtype)
    elif checked.kind in ("tensor", "tensors"):
        row = checked.values.new_zeros((1, *checked.values.shape[1:]))
    elif is_tokenizer(estimator.preprocess) or loaded.preprocess is not None:
        return make_feed(CheckedRows("texts", ["text"], 1), estimator, loaded)
    else:
        msg = (
            "`X` has no rows, and how wide the result is cannot be told before a row "
            "was seen: call `fit` first."
        )
        raise ValueError(msg)
    return make_feed(CheckedRows(checked.kind, row, 1), estimator, loaded)


def _without_bad(kind: Kind, values: list[Any], bad: Indices) -> CheckedRows:
    """Take the bad rows out of a list, and tell where the others went."""
    if not len(bad):
        return CheckedRows(kind, values, len(values))
    good = np.ones(len(values), bool)
    good[bad] = False
    origin = np.where(good, np.cumsum(good) - 1, -1)
    kept = [value for value, keep in zip(values, good, strict=True) if keep]
    return CheckedRows(kind, kept, len(values), origin, bad)


def _checked_texts(X: Any, *, forgiving: bool) -> CheckedRows:
    if not forgiving:
        texts = as_texts(X)
        distinct, origin = distinct_texts(texts)
        return CheckedRows("texts", distinct, len(texts), origin)
    bad = find_wrong_texts(X)
    some = _without_bad("texts", as_rows(X), bad)
    distinct, of_some = distinct_texts([str(text) for text in some.values])
    if of_some is None or some.origin is None:
        origin = some.origin if of_some is None else of_some
    else:
        origin = np.where(some.origin < 0, -1, of_some[some.origin])
    return CheckedRows("texts", distinct, some.n_samples, origin, bad)


def _text_feed(
    texts: list[str],
    origin: Indices | None,
    preprocess: Any,
    loaded: LoadedModel,
    *,
    forgiving: bool,
) -> Feed:
    chosen = preprocess or loaded.preprocess
    if chosen is None:
        msg = (
            "`X` holds str, and `model` takes tensors: give a `preprocess`, such as "
            "the model's tokenizer, or a model that brings one ('hf:NAME_OR_PATH')."
        )
        raise TypeError(msg)
    if is_tokenizer(chosen):
        return TokenFeed(texts, origin, chosen, loaded.module, forgiving=forgiving)
    if preprocess is None and loaded.lengths is not None:
        lengths = loaded.lengths(texts)
    else:
        lengths = np.array([len(text) for text in texts], np.int64)
    dtype = float_dtype(loaded.module)
    return RowFeed(texts, chosen, dtype, origin=origin, lengths=lengths)


def _checked_array(estimator: Any, X: Any, *, reset: bool) -> CheckedRows:
    """Check a numeric array or frame of two axes or more; its dtype stays."""
    if not reset and _is_plainly_right(estimator, X):
        return CheckedRows("array", X, len(X))
    check_even(X)
    _check_frame(estimator, X, reset=reset)
    forgiving = estimator.on_error == "nan"
    array: NDArray[Any] = check_array(
        X,
        dtype="numeric",
        allow_nd=True,
        ensure_all_finite=estimator.preprocess is None and not forgiving,
        ensure_min_samples=1 if reset else 0,
        estimator=estimator,
        input_name="X",
    )
    if array.ndim == _TWO_AXES and not hasattr(X, "columns"):
        validate_data(estimator, array, reset=reset, skip_check_array=True)
    finite = None
    if forgiving and estimator.preprocess is None and array.dtype.kind == "f":
        finite = np.isfinite(array).all(tuple(range(1, array.ndim)))
    return _without_odd("array", array, finite)


def _is_plainly_right(estimator: Any, X: Any) -> bool:
    """Tell what scikit-learn's checks, which take 130 microseconds, would let pass."""
    if type(X) is not np.ndarray or X.ndim < _TWO_AXES or X.dtype not in _FLOATS:
        return False
    if not X.size or hasattr(estimator, "feature_names_in_"):
        return False
    if X.ndim == _TWO_AXES and X.shape[1] != getattr(
        estimator, "n_features_in_", X.shape[1]
    ):
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.add.reduce(X, axis=None)))


def _without_odd(
    kind: Kind, values: Any, finite: NDArray[np.bool_] | None
) -> CheckedRows:
    """Leave out rows of an array that are not finite, without copying the others."""
    n_samples = len(values)
    if finite is None or finite.all():
        return CheckedRows(kind, values, n_samples)
    rows = np.arange(n_samples)
    origin = np.where(finite, rows, -1)
    return CheckedRows(kind, values, n_samples, origin, rows[~finite])


def _check_frame(estimator: BaseEstimator, X: Any, *, reset: bool) -> None:
    """Learn or compare the names and the number of the columns of a frame."""
    if hasattr(X, "columns"):
        validate_data(estimator, X, reset=reset, skip_check_array=True)


def _checked_tensor(
    estimator: Any, tensor: torch.Tensor, *, reset: bool
) -> CheckedRows:
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
    finite = None
    if estimator.preprocess is None and not bool(torch.isfinite(tensor).all()):
        if estimator.on_error != "nan":
            msg = "Input X contains NaN or infinity."
            raise ValueError(msg)
        finite = torch.isfinite(tensor).flatten(1).all(1).cpu().numpy()
    if tensor.ndim == _TWO_AXES:
        validate_data(estimator, tensor, reset=reset, skip_check_array=True)
    return _without_odd("tensor", tensor, finite)


def _no_rows(estimator: BaseEstimator) -> str:
    return (
        "Found array with 0 sample(s) while a minimum of 1 is required by "
        f"{type(estimator).__name__}."
    )


def _is_empty_column(X: Any) -> bool:
    """Tell an empty list, Series or 1-D array: nothing says what it would hold."""
    return getattr(X, "ndim", 1) == 1 and hasattr(X, "__len__") and len(X) == 0
