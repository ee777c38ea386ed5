"""Tensor <-> array, checked and safe.

Hides what kinds of tensors there are, which of them have values, how these are copied,
shared, cast and joined, and how one value is picked out of what a model returned.
"""

from sklearn_torch_bridge._convert._copy_or_share import (
    held_dtype,
    numpy_dtype,
    result_dtype,
)
from sklearn_torch_bridge._convert._join_rows import stack
from sklearn_torch_bridge._convert._select_output import (
    is_container,
    iter_fields,
    select_output,
)
from sklearn_torch_bridge._convert._to_numpy import (
    as_array,
    is_of,
    selected,
    tensor_rows,
    to_numpy,
    to_tensor,
    write_rows,
)
from sklearn_torch_bridge._convert._unwrap_or_refuse import PLAIN_TYPES, plain

__all__ = [
    "PLAIN_TYPES",
    "as_array",
    "held_dtype",
    "is_container",
    "is_of",
    "iter_fields",
    "numpy_dtype",
    "plain",
    "result_dtype",
    "select_output",
    "selected",
    "stack",
    "tensor_rows",
    "to_numpy",
    "to_tensor",
    "write_rows",
]
