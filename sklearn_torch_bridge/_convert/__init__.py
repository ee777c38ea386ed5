"""Tensor <-> array, checked and safe.

Hides what kinds of tensors there are, which of them have values, how these are copied,
shared, cast and joined, and how one value is selected of what a model returned.
"""

from sklearn_torch_bridge._convert._array_likes import (
    as_array,
    refuse_kind,
    tensor_rows,
)
from sklearn_torch_bridge._convert._copy_or_share import copy_values
from sklearn_torch_bridge._convert._dtypes import (
    held_dtype,
    is_same_float,
    result_dtype,
)
from sklearn_torch_bridge._convert._exact_integers import (
    digits,
    find_rounded,
    integers_among,
    kept_integers,
    rounded_error,
)
from sklearn_torch_bridge._convert._hidden_values import (
    FAULT_HINTS,
    check_there,
    deep_fault,
    hidden_fault,
    is_masked,
    iter_faults,
)
from sklearn_torch_bridge._convert._join_rows import stack, write_rows
from sklearn_torch_bridge._convert._select_output import (
    is_container,
    iter_fields,
    select_output,
)
from sklearn_torch_bridge._convert._sparse_indices import check_indices
from sklearn_torch_bridge._convert._to_numpy import output_or_rows, to_numpy
from sklearn_torch_bridge._convert._to_tensor import lost_values, to_tensor
from sklearn_torch_bridge._convert._unwrap_or_refuse import (
    TENSOR_TYPES,
    unwrap,
)

__all__ = [
    "FAULT_HINTS",
    "TENSOR_TYPES",
    "as_array",
    "check_indices",
    "check_there",
    "copy_values",
    "deep_fault",
    "digits",
    "find_rounded",
    "held_dtype",
    "hidden_fault",
    "integers_among",
    "is_container",
    "is_masked",
    "is_same_float",
    "iter_faults",
    "iter_fields",
    "kept_integers",
    "lost_values",
    "output_or_rows",
    "refuse_kind",
    "result_dtype",
    "rounded_error",
    "select_output",
    "stack",
    "tensor_rows",
    "to_numpy",
    "to_tensor",
    "unwrap",
    "write_rows",
]
