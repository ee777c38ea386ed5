"""A copy of a module that shares its storage; its layers, and vectors read off it.

Hides how modules are copied without their weights, which cannot be and are borrowed,
how weights reach a device, and how a forward pass is stopped after the last layer.
"""

from sklearn_torch_bridge._replica._early_stop import (
    Record,
    are_plain_names,
    check_layers,
    taps,
)
from sklearn_torch_bridge._replica._make_replica import replica
from sklearn_torch_bridge._replica._module_copy import copy_module, is_state
from sklearn_torch_bridge._replica._reader import Reader, ReadError, Reading

__all__ = [
    "ReadError",
    "Reader",
    "Reading",
    "Record",
    "are_plain_names",
    "check_layers",
    "copy_module",
    "is_state",
    "replica",
    "taps",
]
