"""Compute the embeddings of each layer of an extractor in one pass over the rows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from sklearn_torch_bridge._estimators import TorchFeatureExtractor

__all__ = ["embeddings_by_layer", "layer_name"]

_TWO_AXES = 2


def embeddings_by_layer(
    extractor: TorchFeatureExtractor, X: Any
) -> dict[str, NDArray[Any]]:
    """Run the model once and return the embeddings of each layer of the extractor."""
    own = clone(extractor).set_output(transform="default")
    Z = own.fit_transform(X)
    if Z.ndim != _TWO_AXES:
        msg = (
            "`pooling` of the extractor must give one vector per row, got "
            f"{own.pooling!r} and an output of shape {Z.shape}"
            f"{', with an array for each row' if Z.dtype == object else ''}."
        )
        raise ValueError(msg)
    columns = own.get_feature_names_out()
    if columns[0] == f"{type(own).__name__.lower()}0":
        return {layer_name(own.layer): Z}
    layers = np.array([column.rpartition("_")[0] for column in columns])
    return {layer: Z[:, layers == layer] for layer in dict.fromkeys(layers.tolist())}


def layer_name(layer: Any) -> str:
    """Return the value of the parameter `layer` as text."""
    if layer is None:
        return "output"
    return layer if isinstance(layer, str) else ", ".join(layer)
