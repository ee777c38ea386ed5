"""What the estimators share: parameter checks, tags, column names."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn import get_config
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.exceptions import NotFittedError
from sklearn.utils import Tags

from sklearn_torch_bridge._callbacks import CallbackSupport

__all__ = [
    "BridgeTransformer",
    "check_dtype_name",
    "check_options",
    "check_positive_int",
    "one_of",
]

Check = Callable[[str, Any], object]

_KINDS = "biufc"


class BridgeTransformer(
    CallbackSupport, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """A transformer that needs no fit: what it learns are names and widths."""

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.sparse = True
        tags.input_tags.string = True
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _container(self) -> str:
        """Tell what `set_output` asks for: "default", "pandas" or "polars"."""
        config = getattr(self, "_sklearn_output_config", {})
        container: str = config.get("transform", get_config()["transform_output"])
        return container

    def get_feature_names_out(self, input_features: Any = None) -> Any:
        """Name the columns of what `transform` returns.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Only checked against the names seen in `fit`.

        Returns
        -------
        feature_names_out : ndarray of str objects
            One name a column.

        Raises
        ------
        NotFittedError
            Before `fit`, which learns how many columns there are.
        """
        if not hasattr(self, "_n_features_out"):
            # "does not provide get_feature_names_out" makes `set_output` number the
            # columns of a transform before fit, instead of losing what was computed.
            msg = (
                f"This {type(self).__name__} instance is not fitted yet, so it does "
                "not provide get_feature_names_out. Call 'fit' first."
            )
            raise NotFittedError(msg)
        return super().get_feature_names_out(input_features)


def check_options(estimator: BaseEstimator, checks: Mapping[str, Check]) -> None:
    """Check parameters of an estimator, each by its function ``(name, value)``."""
    for name, check in checks.items():
        check(name, getattr(estimator, name))


def check_positive_int(name: str, value: Any) -> int:
    """Return `value` if it is a whole number from 1."""
    if (
        isinstance(value, (int, np.integer))
        and not isinstance(value, bool)
        and value > 0
    ):
        return int(value)
    msg = f"`{name}` must be an int of at least 1, got {value!r}."
    raise (ValueError if isinstance(value, (int, np.integer)) else TypeError)(msg)


def check_dtype_name(name: str, value: Any) -> np.dtype[Any] | None:
    """Return the NumPy dtype of numbers that `value` names; None stays."""
    if value is None:
        return None
    try:
        dtype: np.dtype[Any] = np.dtype(value)
    except TypeError as error:
        msg = f"`{name}` must be a NumPy dtype of numbers or None, got {value!r}."
        raise ValueError(msg) from error
    if dtype.kind not in _KINDS:
        msg = f"`{name}` must be a NumPy dtype of numbers or None, got {value!r}."
        raise ValueError(msg)
    return dtype


def one_of(*choices: Any) -> Check:
    """Make a check that the value is one of `choices`."""

    def check(name: str, value: Any) -> None:
        if not any(value is choice or value == choice for choice in choices):
            known = ", ".join(map(repr, choices))
            msg = f"`{name}` must be one of {known}, got {value!r}."
            raise ValueError(msg)

    return check
