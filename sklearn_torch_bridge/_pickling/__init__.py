"""Pickles of modules: their weights in a few arrays, which joblib maps for its workers.

Hides how the arrays are laid out and read back, and the names in pickles of old. What
stands for a module, a handle or a method of one, is told here too.
"""

from sklearn_torch_bridge._pickling._deep_copy import deep_copy
from sklearn_torch_bridge._pickling._made_anew import (
    fill_parametrized,
    new_generator,
    new_parametrized,
)
from sklearn_torch_bridge._pickling._module_calls import (
    ModuleCall,
    is_module_call,
    module_called,
)
from sklearn_torch_bridge._pickling._old_names import find_old_names
from sklearn_torch_bridge._pickling._pack import (
    Packed,
    cloudpickle,
    export_values,
    reducer_override,
    restore_values,
    unpack,
)
from sklearn_torch_bridge._pickling._shared import Shared, share

__all__ = [
    "ModuleCall",
    "Packed",
    "Shared",
    "cloudpickle",
    "deep_copy",
    "export_values",
    "fill_parametrized",
    "is_module_call",
    "module_called",
    "new_generator",
    "new_parametrized",
    "reducer_override",
    "restore_values",
    "share",
    "unpack",
]

# Where every pickle with a module finds them: they stay here.
for _function in (unpack, new_generator, new_parametrized, fill_parametrized):
    _function.__module__ = __name__
find_old_names()
