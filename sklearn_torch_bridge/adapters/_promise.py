"""What each partition will become: the shape of a row, and the dtype."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.pipeline import Pipeline

from sklearn_torch_bridge._estimators import TorchFeatureExtractor

__all__ = ["Promise", "as_dense", "check_estimator", "extractor_of", "promise_of"]


@dataclass(frozen=True)
class Promise:
    """The shape and the dtype of one row of the result."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def empty(self, n_samples: int = 0) -> NDArray[Any]:
        """Give rows of zeros."""
        return np.zeros((n_samples, *self.shape), self.dtype)

    def check(self, result: NDArray[Any], n_samples: int) -> NDArray[Any]:
        """Return the result of a partition if it is what was promised."""
        expected = (n_samples, *self.shape)
        if result.shape != expected or result.dtype != self.dtype:
            msg = (
                f"the result must have shape {expected} and dtype {self.dtype}, as "
                f"probed or as `meta` says, got {result.shape} and {result.dtype}."
            )
            raise ValueError(msg)
        return result


def check_estimator(extractor: Any, method: str) -> None:
    """Refuse what is no extractor, nor a Pipeline that begins with one."""
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
    """Give the extractor that rows come to first."""
    while isinstance(estimator, Pipeline) and estimator.steps:
        estimator = estimator.steps[0][1]
    return estimator


def promise_of(estimator: Any, method: str, rows: Any, meta: Any = None) -> Promise:
    """Tell what `method` makes of `rows`, which are none, but of their kind.

    A fitted extractor knows; another runs one made-up row. Later steps of a Pipeline
    see one row of zeros.
    """
    if meta is not None:
        declared = np.asarray(meta)
        if not declared.ndim:
            msg = f"`meta` must be an array with an axis of rows, got {meta!r}."
            raise ValueError(msg)
        return Promise(declared.shape[1:], declared.dtype)
    if not isinstance(estimator, Pipeline):
        result = as_dense(getattr(estimator, method)(rows))
        return Promise(result.shape[1:], result.dtype)
    first, rest = estimator.steps[0][1], estimator[1:]
    if not len(rest):
        return promise_of(first, method, rows)
    between = promise_of(first, "transform", rows)
    with warnings.catch_warnings(action="ignore"):  # on rows that only we made up
        result = as_dense(getattr(rest, method)(between.empty(1)))
    return Promise(result.shape[1:], result.dtype)


def as_dense(result: Any) -> NDArray[Any]:
    """Return an array, or the values of a frame."""
    if issparse(result):
        msg = (
            "the last step must return an array, got a sparse one. Give it "
            "sparse_output=False, or end the Pipeline before it."
        )
        raise TypeError(msg)
    return np.asarray(result)
