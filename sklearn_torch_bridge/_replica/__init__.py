"""A copy of a module that shares its storage; its layers, and vectors of them.

Hides how modules are copied without their weights, which cannot be and are borrowed,
how weights reach a device, and how a forward pass is ended after the last layer.
"""

from sklearn_torch_bridge._replica._channels_in_values import Call, calls_of
from sklearn_torch_bridge._replica._early_stop import Record, taps
from sklearn_torch_bridge._replica._findings import findings_of
from sklearn_torch_bridge._replica._forwards import Forwards, UnfitModelError
from sklearn_torch_bridge._replica._known_axes import Kept
from sklearn_torch_bridge._replica._layer_names import check_layers, literal_names
from sklearn_torch_bridge._replica._layer_vectors import Looks, Reader
from sklearn_torch_bridge._replica._make_replica import Replica, replica
from sklearn_torch_bridge._replica._module_copy import copy_module, is_state
from sklearn_torch_bridge._replica._operations import operation
from sklearn_torch_bridge._replica._readings import ReadError, Reading
from sklearn_torch_bridge._replica._redirected_draws import Generators, redirected
from sklearn_torch_bridge._replica._rows_in_values import following_axes, plain_axis
from sklearn_torch_bridge._replica._watch import RunAgainError

__all__ = [
    "Call",
    "Forwards",
    "Generators",
    "Kept",
    "Looks",
    "ReadError",
    "Reader",
    "Reading",
    "Record",
    "Replica",
    "RunAgainError",
    "UnfitModelError",
    "calls_of",
    "check_layers",
    "copy_module",
    "findings_of",
    "following_axes",
    "is_state",
    "literal_names",
    "operation",
    "plain_axis",
    "redirected",
    "replica",
    "taps",
]
