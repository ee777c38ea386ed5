"""Array to tensor: a copy of another dtype and device."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sklearn_torch_bridge._convert._checked_cast import cast_into
from sklearn_torch_bridge._convert._dtypes import is_same_float, result_dtype
from sklearn_torch_bridge._tensor_bytes import Memory, fresh

__all__ = ["lost_values", "to_tensor"]


def to_tensor(
    array: NDArray[Any],
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    memory: Memory = fresh,
) -> torch.Tensor:
    """Copy any array, also a read-only or reversed one, into a tensor of its own.

    `dtype` is for floating arrays alone: integers stay. A value that it cannot hold is
    a ValueError. `memory` allocates the tensor that is written to.
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
    lost = lost_values(tensor, halved)  # NumPy has no such dtype to watch over it
    if bool(lost.any()):
        place = int(lost.reshape(-1).int().argmax())
        row = place // max(1, tensor[:1].numel()) if tensor.ndim else 0
        msg = (
            f"`dtype` must hold every value, got {dtype}: {tensor.reshape(-1)[place]} "
            f"in row {row} would overflow, or lose its sign."
        )
        raise ValueError(msg)
    return halved.to(device)


def lost_values(values: torch.Tensor, cast: torch.Tensor) -> torch.Tensor:
    """Return which floats have not become the nearest that another dtype has.

    Beyond its range the dtypes of one byte have the largest value or NaN, some have no
    infinity, and float8_e8m0fnu has neither signs nor 0. Small values may become 0.
    """
    if cast.element_size() > 1:
        return values.isfinite() & ~cast.isfinite()
    given = values.float() if values.element_size() == 1 else values
    wide = cast.float()
    return ~given.isnan() & (
        wide.isnan()
        | (given.isinf() != wide.isinf())
        | (given.isfinite() & (given.abs() > torch.finfo(cast.dtype).max))
        | (given * wide < 0)
        | (wide.abs() > 2 * given.abs())
    )
