"""What the estimators share: parameter checks, tags, column names."""

from typing import Any

from sklearn import get_config
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.exceptions import NotFittedError
from sklearn.utils import Tags

from sklearn_torch_bridge._estimators._callbacks import CallbackSupport

__all__ = ["BridgeTransformer"]


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
