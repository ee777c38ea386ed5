"""Shape and dtype of the rows of a result, known before anything is computed."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.pipeline import Pipeline

from sklearn_torch_bridge._estimators import TorchFeatureExtractor

__all__ = ["RowSpec", "as_dense", "check_estimator", "extractor_of", "row_spec_of"]


@dataclass(frozen=True)
class RowSpec:
    """The shape and the dtype of one row of the result."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def empty(self, n_samples: int = 0) -> NDArray[Any]:
        """Return rows of zeros."""
        return np.zeros((n_samples, *self.shape), self.dtype)

    def check(self, result: NDArray[Any], n_samples: int) -> NDArray[Any]:
        """Return the result of a partition if its rows are as specified."""
        expected = (n_samples, *self.shape)
        if result.shape != expected or result.dtype != self.dtype:
            msg = (
                f"the result must have shape {expected} and dtype {self.dtype}, as "
                f"probed or as `meta` says, got {result.shape} and {result.dtype}."
            )
            raise ValueError(msg)
        return result


def check_estimator(extractor: Any, method: str) -> None:
    """Check for an extractor, or a Pipeline that begins with one."""
    if not isinstance(extractor_of(extractor), TorchFeatureExtractor):
        msg = (
            "`extractor` must be a TorchFeatureExtractor, or a Pipeline whose first "
            f"step is one, got {type(extractor).__name__}."
        )
        raise TypeError(msg)
    if not hasattr(extractor, method):
        msg = (
            f"`method` must name a method of {type(extractor).__name__}, such as "
            f"'transform' or, for a classifier, 'predict'; got {method!r}."
        )
        raise ValueError(msg)


def extractor_of(estimator: Any) -> Any:
    """Return the extractor that gets the rows first."""
    while isinstance(estimator, Pipeline) and estimator.steps:
        estimator = estimator.steps[0][1]
    return estimator


def row_spec_of(estimator: Any, method: str, rows: Any, meta: Any = None) -> RowSpec:
    """Return the spec of what `method` makes of rows like `rows`, which is empty.

    A fitted extractor knows it; another runs one made-up row. Later steps of a
    Pipeline get one row of zeros.
    """
    if meta is not None:
        result = np.asarray(meta)
        if not result.ndim:
            msg = f"`meta` must be an array with an axis of rows, got {meta!r}."
            raise ValueError(msg)
    elif not isinstance(estimator, Pipeline):
        result = as_dense(getattr(estimator, method)(rows))
        if result.dtype == object and isinstance(estimator, TorchFeatureExtractor):
            msg = (
                "`pooling` of the extractor must not be None here: its rows differ in "
                "length, and a partition has rows of one shape. Name a `pooling`, or "
                "end in a step that makes one vector of each and give `meta`."
            )
            raise ValueError(msg)
    elif len(estimator) == 1:
        return row_spec_of(estimator[0], method, rows)
    else:
        between = row_spec_of(estimator[0], "transform", rows)
        with warnings.catch_warnings(action="ignore"):  # on a row that we made up
            result = as_dense(getattr(estimator[1:], method)(between.empty(1)))
    return RowSpec(result.shape[1:], result.dtype)


def as_dense(result: Any) -> NDArray[Any]:
    """Convert a frame to an array; refuse what is sparse."""
    if issparse(result):
        msg = (
            "the last step must return an array, got a sparse one. Give it "
            "sparse_output=False, or end the Pipeline before it."
        )
        raise TypeError(msg)
    return np.asarray(result)
