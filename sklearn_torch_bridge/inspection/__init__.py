"""Pictures of embeddings and of differences between layers; tables of layers.

The displays work like those of scikit-learn. ``from_estimator`` and ``from_embeddings``
compute the values and draw nothing, so that they do not need matplotlib. ``plot`` draws
them (extra ``plot``), on new or given axes, and sets ``ax_`` and ``figure_``. What
colours show is also shown by markers, fills or numbers, for readers with any colour
vision and for print in grey. `layer_table` lists the layers of a model.
"""

from sklearn_torch_bridge._packages import set_home
from sklearn_torch_bridge.inspection._batch_sensitivity import (
    BatchSensitivity,
    batch_sensitivity,
)
from sklearn_torch_bridge.inspection._drift_display import DriftDisplay
from sklearn_torch_bridge.inspection._embedding_display import EmbeddingDisplay
from sklearn_torch_bridge.inspection._layer_scores import (
    LayerScoreDisplay,
    layer_scores,
)
from sklearn_torch_bridge.inspection._layer_table import (
    LayerInfo,
    LayerTable,
    layer_table,
)
from sklearn_torch_bridge.inspection._similarity_display import SimilarityDisplay

__all__ = [
    "BatchSensitivity",
    "DriftDisplay",
    "EmbeddingDisplay",
    "LayerInfo",
    "LayerScoreDisplay",
    "LayerTable",
    "SimilarityDisplay",
    "batch_sensitivity",
    "layer_scores",
    "layer_table",
]

set_home(globals())
