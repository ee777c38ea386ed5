"""Weights beside pickles: what other processes get of a module.

Hides how tensors become a few plain arrays that joblib maps, and modules of them again.
"""

from sklearn_torch_bridge._pickling._pack import (
    Packed,
    cloudpickle,
    detour,
    export_values,
    restore_values,
    unpack,
)
from sklearn_torch_bridge._pickling._shared import Shared, share

__all__ = [
    "Packed",
    "Shared",
    "cloudpickle",
    "detour",
    "export_values",
    "restore_values",
    "share",
    "unpack",
]
