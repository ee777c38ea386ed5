"""Pictures of embeddings: values first, drawn by ``plot`` (extra ``plot``).

Displays as scikit-learn has them. ``from_estimator`` and ``from_embeddings`` compute
the values and draw nothing, so that they need no matplotlib; ``plot`` draws them, on
axes of its own or on given ones, and sets ``ax_`` and ``figure_``. What colours tell
is told by marks, fills or numbers as well, for readers who see them differently and
for print in grey. `layer_table` lists the layers of a model.
"""

from sklearn_torch_bridge.inspection._batch_sensitivity import (
    BatchSensitivity,
    batch_sensitivity,
)
from sklearn_torch_bridge.inspection._drift import DriftDisplay
from sklearn_torch_bridge.inspection._embedding import EmbeddingDisplay
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
