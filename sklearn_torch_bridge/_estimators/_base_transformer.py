"""What the estimators share: no fit is needed, tags, the container of results."""

from sklearn import get_config
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags

from sklearn_torch_bridge._estimators._callbacks import CallbackSupport
from sklearn_torch_bridge._estimators._column_names import NamedColumns

__all__ = ["BridgeTransformer"]


class BridgeTransformer(CallbackSupport, NamedColumns, TransformerMixin, BaseEstimator):
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
        """Return what `set_output` asks for: "default", "pandas" or "polars"."""
        config = getattr(self, "_sklearn_output_config", {})
        container: str = config.get("transform", get_config()["transform_output"])
        return container
