"""What stands in a Pipeline: the estimators, their options, one call of them.

Hides how a call is planned and run.
"""

from sklearn_torch_bridge._estimators._extraction import plan_extraction
from sklearn_torch_bridge._estimators._precompute import Precomputed, precompute
from sklearn_torch_bridge._estimators._tensor_to_array import TensorToArray
from sklearn_torch_bridge._estimators._torch_feature_extractor import (
    TorchFeatureExtractor,
)

__all__ = [
    "Precomputed",
    "TensorToArray",
    "TorchFeatureExtractor",
    "plan_extraction",
    "precompute",
]
