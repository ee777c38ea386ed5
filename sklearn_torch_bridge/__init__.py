"""A scikit-learn compatible adapter for PyTorch models."""

from importlib.metadata import version

from sklearn_torch_bridge import pooling
from sklearn_torch_bridge._convert import to_numpy
from sklearn_torch_bridge._errors import (
    BadRowWarning,
    ConversionError,
    ForwardError,
    OutputError,
)
from sklearn_torch_bridge._feature_extractor import TorchFeatureExtractor
from sklearn_torch_bridge._tensor_to_array import TensorToArray

__version__ = version("sklearn-torch-bridge")

__all__ = [
    "BadRowWarning",
    "ConversionError",
    "ForwardError",
    "OutputError",
    "TensorToArray",
    "TorchFeatureExtractor",
    "pooling",
    "to_numpy",
]
