"""Array to tensor: a copy of another dtype and device."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sklearn_torch_bridge._convert._checked_cast import cast_into
from sklearn_torch_bridge._convert._dtypes import is_same_float, result_dtype
from sklearn_torch_bridge._tensor_bytes import Memory, fresh

__all__ = ["to_tensor"]


def to_tensor(
    array: NDArray[Any],
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    memory: Memory = fresh,
) -> torch.Tensor:
    """Copy any array, also a read-only or reversed one, into a tensor of its own.

    `dtype` is for floating arrays alone: integers stay. A finite value that would
    become infinite is a ValueError. `memory` allocates the tensor that is written to.
    """
    held = array.dtype
    if dtype is None or held.kind != "f" or is_same_float(held, dtype):
        tensor = memory(array.shape, held if held.isnative else held.newbyteorder("="))
        np.copyto(tensor.numpy(), array)
        return tensor if device == "cpu" else tensor.to(device)
    tensor = memory(array.shape, result_dtype(dtype))
    cast_into(tensor.numpy(), array)
    if tensor.dtype == dtype:
        return tensor.to(device)
    halved = tensor.to(dtype)
    # NumPy has no such dtype to watch over its overflow.
    if not torch.equal(halved.float().isfinite(), tensor.isfinite()):
        msg = f"`dtype` must hold every value, got {dtype}: some would overflow."
        raise ValueError(msg)
    return halved.to(device)
