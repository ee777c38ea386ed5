"""A scikit-learn compatible adapter for PyTorch models."""

from importlib.metadata import version

from sklearn_torch_bridge import adapters, inspection, models, pooling, stats
from sklearn_torch_bridge._convert import to_numpy
from sklearn_torch_bridge._errors import (
    BadRowWarning,
    CacheError,
    CacheWarning,
    ConversionError,
    FingerprintError,
    ForwardError,
    OutputError,
    PartitionError,
)
from sklearn_torch_bridge._estimators import (
    TensorToArray,
    TorchFeatureExtractor,
    precompute,
)
from sklearn_torch_bridge._pickling import share
from sklearn_torch_bridge.cache import EmbeddingCache
from sklearn_torch_bridge.inspection import layer_table

__version__ = version("sklearn-torch-bridge")

__all__ = [
    "BadRowWarning",
    "CacheError",
    "CacheWarning",
    "ConversionError",
    "EmbeddingCache",
    "FingerprintError",
    "ForwardError",
    "OutputError",
    "PartitionError",
    "TensorToArray",
    "TorchFeatureExtractor",
    "adapters",
    "inspection",
    "layer_table",
    "models",
    "pooling",
    "precompute",
    "share",
    "stats",
    "to_numpy",
]
