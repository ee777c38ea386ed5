"""Array <-> tensor: dtype, device, layout, copy or view."""

from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray

from sklearn_torch_bridge._errors import ConversionError
from sklearn_torch_bridge._types import Indices

__all__ = ["numpy_dtype", "to_numpy", "to_tensor", "write_rows"]

# A table, not torch.empty(0, dtype=...).numpy(): that would follow a
# `with torch.device("meta")` of the caller. Half types are widened, since
# scikit-learn overflows in float16 without a word.
_NUMPY_DTYPES = {
    torch.bool: np.bool_,
    torch.uint8: np.uint8,
    torch.uint16: np.uint16,
    torch.uint32: np.uint32,
    torch.uint64: np.uint64,
    torch.int8: np.int8,
    torch.int16: np.int16,
    torch.int32: np.int32,
    torch.int64: np.int64,
    torch.float16: np.float32,
    torch.bfloat16: np.float32,
    torch.float8_e4m3fn: np.float32,
    torch.float8_e4m3fnuz: np.float32,
    torch.float8_e5m2: np.float32,
    torch.float8_e5m2fnuz: np.float32,
    torch.float32: np.float32,
    torch.float64: np.float64,
}


def numpy_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    """Give the NumPy dtype that holds every value of a torch dtype."""
    try:
        return np.dtype(_NUMPY_DTYPES[dtype])
    except KeyError:
        msg = f"{dtype} has no NumPy equivalent that scikit-learn could use."
        raise ConversionError(msg) from None


def to_numpy(
    obj: Any, *, dtype: DTypeLike | None = None, copy: bool | None = True
) -> NDArray[Any]:
    """Turn a tensor into a C-contiguous NumPy array on the CPU.

    Parameters
    ----------
    obj : torch.Tensor or array-like
        Strided tensors of any device, dtype and layout, with or without gradient.
        Half types (float16, bfloat16, float8) are widened to float32.
    dtype : dtype, default=None
        Of the result. None keeps the tensor's own, widened where it is a half type.
        A value that does not fit is an error.
    copy : bool or None, default=True
        True: the result owns its memory. None: it shares the tensor's memory,
        read-only, where that is possible, and owns it elsewhere. False: it shares, or
        raises.

    Returns
    -------
    array : ndarray
        Of the tensor's shape, in C order.

    Raises
    ------
    ConversionError
        If the values cannot be had.
    ValueError
        If a value does not fit into `dtype`, or sharing was asked and is impossible.

    Examples
    --------
    >>> to_numpy(torch.tensor([1.0, 2.0], dtype=torch.bfloat16, requires_grad=True))
    array([1., 2.], dtype=float32)
    """
    if not isinstance(obj, torch.Tensor):
        array = np.asarray(obj)
        return np.array(array, dtype=dtype or array.dtype, order="C")
    tensor = obj.detach()
    target = np.dtype(dtype) if dtype is not None else numpy_dtype(tensor.dtype)
    shareable = (
        tensor.device.type == "cpu"
        and tensor.is_contiguous()
        and not tensor.is_neg()
        and numpy_dtype(tensor.dtype) == target
        and tensor.element_size() == target.itemsize
    )
    if copy is not True and shareable:
        array = tensor.numpy()
        array.flags.writeable = False
        return array
    if copy is False:
        msg = "`copy` must be True or None for this tensor: it cannot be shared."
        raise ValueError(msg)
    result = np.empty(tuple(tensor.shape), target)
    torch.from_numpy(result).copy_(tensor)
    return result


def to_tensor(
    array: NDArray[Any],
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Copy an array into a tensor of its own.

    Read-only, memory-mapped and negatively strided arrays are fine: they are read,
    never wrapped. `dtype` is asked of floating arrays only; integers stay integers.
    """
    owned = torch.from_numpy(np.array(array, order="C"))
    if dtype is not None and owned.is_floating_point():
        owned = owned.to(dtype)
    return owned.to(device)


def write_rows(target: NDArray[Any], rows: Indices, source: torch.Tensor) -> None:
    """Write a batch of results into rows of the preallocated `target`."""
    target[rows] = to_numpy(source, dtype=target.dtype, copy=None)
