"""A scikit-learn compatible adapter for PyTorch models."""

import importlib
from typing import TYPE_CHECKING, Any

from sklearn_torch_bridge import models, pooling
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
    TruncationWarning,
)
from sklearn_torch_bridge._estimators import Precomputed as Precomputed
from sklearn_torch_bridge._estimators import (
    TensorToArray,
    TorchFeatureExtractor,
    precompute,
)
from sklearn_torch_bridge._packages import VERSION, set_home
from sklearn_torch_bridge._pickling import Shared as Shared
from sklearn_torch_bridge._pickling import share
from sklearn_torch_bridge._types import Windows
from sklearn_torch_bridge.cache import EmbeddingCache

if TYPE_CHECKING:
    from sklearn_torch_bridge import adapters, inspection, stats
    from sklearn_torch_bridge.inspection import layer_table

__version__ = VERSION

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
    "TruncationWarning",
    "Windows",
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

set_home(globals(), "Precomputed", "Shared")  # these two are what functions return


def __getattr__(name: str) -> Any:
    """Load a subpackage, or what one of them brings, when it is asked for."""
    if name in ("adapters", "inspection", "stats"):
        return importlib.import_module(f"{__name__}.{name}")
    if name == "layer_table":
        return importlib.import_module(f"{__name__}.inspection").layer_table
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
