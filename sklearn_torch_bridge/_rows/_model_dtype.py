"""Floats in the dtype of the model; a value that would overflow is an error."""

from typing import Any

import numpy as np
import torch

from sklearn_torch_bridge._convert import lost_values, to_tensor

__all__ = ["as_argument", "copied_row", "overflow", "to_model_dtype"]


def to_model_dtype(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Cast floats, which must fit; integers and booleans stay."""
    held = tensor.dtype
    if not held.is_floating_point or held == dtype:
        return tensor
    cast = tensor.to(dtype)
    if torch.finfo(dtype).max < torch.finfo(held).max or cast.element_size() == 1:
        lost = lost_values(tensor, cast)
        lowest = torch.finfo(held).min  # what stands for -inf in a mask
        if bool((lost & (tensor != lowest)).any()):
            raise overflow(held, dtype)
    return cast


def copied_row(row: Any, dtype: torch.dtype) -> torch.Tensor:
    """Copy an array or a tensor, floats in the dtype of the model."""
    if isinstance(row, torch.Tensor):
        return to_model_dtype(row.detach().clone(), dtype)
    try:
        return to_tensor(row, dtype=dtype)
    except ValueError as error:
        raise overflow(row.dtype, dtype) from error


def as_argument(value: Any, dtype: torch.dtype | None) -> Any:
    """Return an argument of a model: arrays as tensors, floats in `dtype`."""
    tensor = to_tensor(value) if isinstance(value, np.ndarray) else value
    if isinstance(tensor, torch.Tensor) and dtype is not None:
        return to_model_dtype(tensor, dtype)
    return tensor


def overflow(held: object, dtype: torch.dtype) -> ValueError:
    """Return the error for a value of dtype `held` that `dtype` cannot hold."""
    msg = (
        "`X`, or what `preprocess` makes of it, must fit the dtype of the model, "
        f"{dtype}, but a value of {held} would overflow. Scale it, or give the model "
        "in a wider dtype (`model.double()`)."
    )
    return ValueError(msg)
