"""Check `X` as scikit-learn does, before a model is loaded for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, validate_data

from sklearn_torch_bridge._errors import ConversionError
from sklearn_torch_bridge._rows._array_rows import as_ragged, even_rows
from sklearn_torch_bridge._rows._columns import Columns, Items, as_columns
from sklearn_torch_bridge._rows._inputs import (
    Kind,
    as_files,
    as_rows,
    as_texts,
    check_even,
    distinct_texts,
    find_wrong_rows,
    find_wrong_texts,
    kind_of,
)
from sklearn_torch_bridge._rows._row_feeds import MASKS
from sklearn_torch_bridge._tokenizers import is_tokenizer
from sklearn_torch_bridge._types import Indices
from sklearn_torch_bridge.models import (
    is_media_processor,
    may_bring_preprocess,
    opens_files,
)

__all__ = ["CheckedRows", "check_rows"]

_TWO_AXES = 2
_NUMBERS = "biuf"
_FLOATS = frozenset({np.dtype(np.float32), np.dtype(np.float64)})


def n_rows(values: Any) -> int:
    """Count rows; the length of a sparse matrix is another number."""
    count: int = values.shape[0] if issparse(values) else len(values)
    return count


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
        return n_rows(self.values)

    def which_may_run(self) -> Indices:
        """Name the `values` that some row of `X` shows."""
        if self.origin is None:
            return np.arange(len(self))
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
        left = np.zeros(len(self), bool)
        left[self.origin[wanted & (self.origin >= 0)]] = True
        return which[left[which]]

    def origin_of(self, which: Indices | None) -> Indices | None:
        """Tell for each row of `X` which row of a feed of `which` it is; -1: none."""
        if which is None:
            return self.origin
        places = np.full(len(self) + 1, -1)  # the last for origin -1
        places[which] = np.arange(len(which))
        return places[:-1] if self.origin is None else places[self.origin]

    def row(self, row: int) -> "CheckedRows":
        """Give a single one of `values`."""
        if self.kind == "items":
            return CheckedRows(self.kind, [self.values[row]], 1)
        return CheckedRows(self.kind, self.values[row : row + 1], 1)


def check_rows(estimator: Any, X: Any, *, reset: bool) -> CheckedRows:
    """Check all of `X`.

    With `reset` the estimator learns the number and names of the columns, elsewhere
    it compares them.
    """
    if reset:  # rows of another kind may have none to learn
        for learnt in ("n_features_in_", "feature_names_in_"):
            vars(estimator).pop(learnt, None)
    preprocess = estimator.preprocess
    kind = kind_of(
        X,
        has_preprocess=preprocess is not None,
        takes_any=may_bring_preprocess(estimator.model),
    )
    if kind != "columns" and _is_empty_column(X):
        if reset:
            raise ValueError(_no_rows(estimator))
        return CheckedRows("empty", [], 0)
    if kind == "items":
        items = Items(X, whole=preprocess is not None and not _is_library(preprocess))
        if not isinstance(items.first, str):
            return CheckedRows(kind, items, len(items))
        X, kind = [items[row] for row in range(len(items))], "texts"  # to be sorted
    if kind == "texts" and _takes_files(estimator):
        return _checked_files(estimator, X, reset=reset)
    if kind == "rows" and is_tokenizer(preprocess):
        kind = "texts"  # which they are not, or missing: the row will be named
    if kind != "texts" and is_tokenizer(preprocess):
        msg = f"`X` must hold str for a tokenizer, got {type(X).__name__} of others."
        raise TypeError(msg)
    return _CHECKS[kind](estimator, X, reset=reset)


def _is_library(preprocess: Any) -> bool:
    """Tell what takes inputs alone: of a user's own function nobody knows."""
    return is_tokenizer(preprocess) or is_media_processor(preprocess)


def _takes_files(estimator: Any) -> bool:
    """Tell whether str among the rows are paths."""
    if estimator.preprocess is None:
        return opens_files(estimator.model)
    return is_media_processor(estimator.preprocess)


def _checked_files(estimator: Any, X: Any, *, reset: bool) -> CheckedRows:
    _check_frame(estimator, X, reset=reset)
    return _checked_entries(estimator, as_files(as_rows(X)))


def _checked_rows(estimator: Any, X: Any, *, reset: bool) -> CheckedRows:
    """Leave rows of any kind to the user's `preprocess`; it may know missing ones."""
    del reset
    entries, preprocess = as_rows(X), estimator.preprocess
    if preprocess is None or is_media_processor(preprocess):
        return _checked_entries(estimator, entries)
    return CheckedRows("rows", entries, len(entries))


def _checked_entries(estimator: Any, entries: list[Any]) -> CheckedRows:
    """Check that no entry is missing, and that files are there."""
    bad, reason = find_wrong_rows(entries)
    if len(bad) and estimator.on_error != "nan":
        raise ValueError(reason)
    return _without_bad("rows", entries, bad)


def _checked_ragged(estimator: Any, X: Any, *, reset: bool) -> CheckedRows:
    _check_frame(estimator, X, reset=reset)
    arrays, bad = as_ragged(X, forgiving=estimator.on_error == "nan")
    return _without_bad("ragged", arrays, bad)


def _checked_columns(estimator: Any, X: Any, *, reset: bool) -> CheckedRows:
    columns = as_columns(X)
    if reset and not len(columns):
        raise ValueError(_no_rows(estimator))
    finite = None
    if estimator.preprocess is None and len(columns):
        finite = _finite_rows(columns, forgiving=estimator.on_error == "nan")
    return _without_odd("columns", columns, finite)


def _finite_rows(columns: Columns, *, forgiving: bool) -> NDArray[np.bool_]:
    """Refuse values that are not finite, or tell which rows have none."""
    finite = np.ones(len(columns), bool)
    for name, column in columns.by_name.items():
        if name in MASKS:  # of floats: -inf is padding
            continue
        library: Any = torch if isinstance(column, torch.Tensor) else np
        values = library.isfinite(column).reshape(len(columns), -1).all(1)
        finite &= np.asarray(values.cpu() if library is torch else values)
        if not forgiving and not finite.all():
            row = int(np.flatnonzero(~finite)[0])
            msg = (
                f"`X` must be finite, but row {row} of column {name!r} has NaN or "
                "infinity."
            )
            raise ValueError(msg)
    return finite


def _checked_sparse(estimator: Any, X: Any, *, reset: bool) -> CheckedRows:
    """Check a sparse matrix as scikit-learn does."""
    forgiving = estimator.on_error == "nan"
    matrix: Any = validate_data(
        estimator,
        X,
        reset=reset,
        accept_sparse="csr",
        dtype="numeric",
        ensure_all_finite=not forgiving,
        ensure_min_samples=1 if reset else 0,
    )
    finite = None
    if forgiving:
        finite = np.ones(matrix.shape[0], bool)
        rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        finite[rows[~np.isfinite(matrix.data)]] = False
    return _without_odd("sparse", matrix, finite)


def _without_bad(kind: Kind, values: list[Any], bad: Indices) -> CheckedRows:
    """Take the bad rows out of a list, and tell where the others went."""
    if not len(bad):
        return CheckedRows(kind, values, len(values))
    good = np.ones(len(values), bool)
    good[bad] = False
    origin = np.where(good, np.cumsum(good) - 1, -1)
    kept = [value for value, keep in zip(values, good, strict=True) if keep]
    return CheckedRows(kind, kept, len(values), origin, bad)


def _checked_texts(estimator: Any, X: Any, *, reset: bool) -> CheckedRows:
    _check_frame(estimator, X, reset=reset)
    if estimator.on_error != "nan":
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


def _checked_array(
    estimator: Any, X: Any, *, reset: bool, counts: bool = True
) -> CheckedRows:
    """Check a numeric array or frame of two axes or more; its dtype stays.

    The estimator `counts` its columns, unless those are the entries of one column.
    """
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
    if array.dtype.kind not in _NUMBERS and estimator.preprocess is None:
        msg = f"`X` must hold numbers, got dtype {array.dtype}."
        raise ConversionError(msg)
    if array.ndim == _TWO_AXES and counts and not hasattr(X, "columns"):
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
    # A product with itself is infinite or NaN where a value is, and takes two thirds of
    # the time of a sum. Where only the squares are too large, scikit-learn has a look.
    with np.errstate(all="ignore"):
        if X.flags.c_contiguous:
            return bool(np.isfinite(np.dot(X.reshape(-1), X.reshape(-1))))
        return bool(np.isfinite(np.add.reduce(X, axis=None)))


def _without_odd(
    kind: Kind, values: Any, finite: NDArray[np.bool_] | None
) -> CheckedRows:
    """Leave out rows of an array that are not finite, without copying the others."""
    n_samples = n_rows(values)
    if finite is None or finite.all():
        return CheckedRows(kind, values, n_samples)
    rows = np.arange(n_samples)
    origin = np.where(finite, rows, -1)
    return CheckedRows(kind, values, n_samples, origin, rows[~finite])


def _check_frame(estimator: BaseEstimator, X: Any, *, reset: bool) -> None:
    """Learn or compare the names and the number of the columns of a frame.

    Before `fit` there is nothing to compare: scikit-learn would warn of names that it
    has not seen.
    """
    if hasattr(X, "columns") and (reset or hasattr(estimator, "_layer_widths")):
        validate_data(estimator, X, reset=reset, skip_check_array=True)


def _checked_arrays(estimator: Any, X: Any, *, reset: bool) -> CheckedRows:
    """Check rows that are arrays or tensors of one shape, as one."""
    _check_frame(estimator, X, reset=reset)
    whole, bad = even_rows(X, forgiving=estimator.on_error == "nan")
    check = _checked_tensor if isinstance(whole, torch.Tensor) else _checked_array
    some = check(estimator, whole, reset=reset, counts=not hasattr(X, "columns"))
    if not len(bad):
        return some
    n_samples = len(whole) + len(bad)
    good = np.delete(np.arange(n_samples), bad)
    origin = np.full(n_samples, -1)
    origin[good] = np.arange(len(whole)) if some.origin is None else some.origin
    return replace(
        some,
        n_samples=n_samples,
        origin=origin,
        bad=np.union1d(bad, good[some.bad]),
    )


def _checked_tensor(
    estimator: Any, tensor: torch.Tensor, *, reset: bool, counts: bool = True
) -> CheckedRows:
    """Check a tensor where it is, in scikit-learn's words."""
    if (
        tensor.layout is not torch.strided
        or tensor.is_complex()
        or tensor.is_quantized
        or tensor.is_nested
        or tensor.is_meta
    ):
        kind = "nested" if tensor.is_nested else tensor.layout
        msg = (
            "`X` must be a dense tensor of real numbers, got "
            f"{'a meta tensor of ' if tensor.is_meta else ''}{kind} {tensor.dtype}."
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
    if tensor.ndim == _TWO_AXES and counts:
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


_CHECKS: dict[Kind, Callable[..., CheckedRows]] = {
    "array": _checked_array,
    "arrays": _checked_arrays,
    "columns": _checked_columns,
    "ragged": _checked_ragged,
    "rows": _checked_rows,
    "sparse": _checked_sparse,
    "tensor": _checked_tensor,
    "texts": _checked_texts,
}
