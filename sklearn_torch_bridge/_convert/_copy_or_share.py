"""A plain strided tensor as an array: the dtype, the copy, the view."""

import functools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sklearn_torch_bridge._convert._cast import cast_into, check_complex, holds_all
from sklearn_torch_bridge._convert._unwrap_or_refuse import is_wrapped, plain
from sklearn_torch_bridge._errors import ConversionError

__all__ = [
    "SERIAL_LIMIT",
    "array_of",
    "fill",
    "held_dtype",
    "numpy_dtype",
    "result_dtype",
]

# Tables, not torch.empty(0, dtype=...).numpy(): that would follow a
# `with torch.device("meta")` of the caller.
_SHARED_DTYPES = {
    torch.bool: np.dtype(np.bool_),
    torch.uint8: np.dtype(np.uint8),
    torch.uint16: np.dtype(np.uint16),
    torch.uint32: np.dtype(np.uint32),
    torch.uint64: np.dtype(np.uint64),
    torch.int8: np.dtype(np.int8),
    torch.int16: np.dtype(np.int16),
    torch.int32: np.dtype(np.int32),
    torch.int64: np.dtype(np.int64),
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
    torch.complex64: np.dtype(np.complex64),
    torch.complex128: np.dtype(np.complex128),
}
# Half types are widened, since scikit-learn overflows in float16 without a word.
_WIDENED = [
    *(torch.float16, torch.bfloat16),
    *(torch.float8_e4m3fn, torch.float8_e4m3fnuz),
    *(torch.float8_e5m2, torch.float8_e5m2fnuz),
]
if hasattr(torch, "float8_e8m0fnu"):  # new in torch 2.7
    _WIDENED.append(torch.float8_e8m0fnu)
_HELD_DTYPES = {
    **_SHARED_DTYPES,
    **dict.fromkeys(_WIDENED, np.dtype(np.float32)),
    torch.complex32: np.dtype(np.complex64),
}
_WRITTEN_BY_TORCH = frozenset(_HELD_DTYPES.values()) | {np.dtype(np.float16)}

# The most elements that torch copies without starting threads (its grain size). That
# many also stay in the cache between being widened and being checked.
SERIAL_LIMIT = 32_767
# From here on threads save more than waiting for them can cost.
_WORTH_WAITING = 2**22
# A view keeps its whole storage alive: a copy is cheaper than twice the memory.
_SLACK = 2


def held_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    """Give the NumPy dtype that holds every value of a torch dtype."""
    try:
        return _HELD_DTYPES[dtype]
    except KeyError:
        msg = (
            f"{dtype} has no NumPy equivalent: its values are packed or raw bits. "
            "Dequantize it, or unpack it to torch.int8 or torch.uint8, first."
        )
        raise ConversionError(msg) from None


def numpy_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    """Give the NumPy dtype that holds every value of a real torch dtype."""
    return result_dtype(dtype, None)


def result_dtype(dtype: torch.dtype, asked: np.dtype[Any] | None) -> np.dtype[Any]:
    """Decide on the dtype of the array: `asked`, or what holds every value."""
    held = held_dtype(dtype)
    if held.kind == "c":
        return check_complex(dtype, asked)
    return held if asked is None else asked


def array_of(
    tensor: torch.Tensor, asked: np.dtype[Any] | None, *, copy: bool | None
) -> NDArray[Any]:
    """Turn a tensor that is not sparse into a C-contiguous array."""
    values = plain(tensor)
    held = _HELD_DTYPES.get(values.dtype)
    if copy is True and asked is None and held is not None and held.kind != "c":
        # What most calls want, spared whatever does not concern it.
        out = np.empty(tuple(values.shape), held)
        _copy(torch.from_numpy(out), values)
        return out
    target = result_dtype(values.dtype, asked)
    if copy is not True:
        if _can_share(values, target) and (
            _is_safe_to_share(tensor, values)
            if copy is None
            else _address(values) == _address(tensor)
        ):
            return _shared(values)
        if copy is False:
            msg = (
                "`copy` must be True or None for this tensor, got False: "
                f"{tensor.dtype} in its layout is no contiguous {target} array."
            )
            raise ValueError(msg)
    out = np.empty(values.shape, target)
    fill(out, values)
    return out


def fill(out: NDArray[Any], values: torch.Tensor) -> None:
    """Write a plain strided CPU tensor into `out`, of its shape, in one pass.

    NumPy has allocated `out` (huge pages; and the tensor's storage stays resizable),
    torch writes, which resolves strides and lazy bits on the way.
    """
    if _is_written_by_torch(values.dtype, out.dtype):
        _copy(torch.from_numpy(out), values)
    elif values.ndim == 0:
        _fill_checked(out[np.newaxis], values[None])
    else:
        _fill_checked(out, values)


def _copy(out: torch.Tensor, values: torch.Tensor) -> None:
    """Copy in one pass, in pieces where threads would rather wait than work.

    torch starts its threads from 32,768 elements on and waits for all of them: on a
    busy machine 8 ms a copy, far longer than a copy of medium size takes by itself.
    Pieces below that halve the speed of an idle machine and are 20 times faster there.
    """
    n_values = values.numel()
    if (
        n_values <= SERIAL_LIMIT
        or n_values >= _WORTH_WAITING
        or torch.get_num_threads() == 1
    ):
        out.copy_(values)
        return
    if values.is_contiguous():
        out, values = out.view(-1), values.view(-1)
    step = max(1, SERIAL_LIMIT * len(values) // n_values)
    for start in range(0, len(values), step):
        out[start : start + step].copy_(values[start : start + step])


@functools.cache
def _is_written_by_torch(dtype: torch.dtype, target: np.dtype[Any]) -> bool:
    """Tell whether `copy_` may write such values: none can be lost on the way."""
    held = held_dtype(dtype)
    if held.kind == "c":
        check_complex(dtype, target)
    return held == target or (target in _WRITTEN_BY_TORCH and holds_all(target, held))


def _fill_checked(out: NDArray[Any], values: torch.Tensor) -> None:
    """Write by pieces that stay in the cache while they are checked."""
    n_rows = len(values)
    step = max(1, SERIAL_LIMIT // max(1, values[:1].numel()))
    held = held_dtype(values.dtype)
    scratch = np.empty((min(step, n_rows), *values.shape[1:]), held)
    for start in range(0, n_rows, step):
        piece = values[start : start + step]
        widened = scratch[: len(piece)]
        torch.from_numpy(widened).copy_(piece)
        cast_into(out[start : start + step], widened)


def _can_share(values: torch.Tensor, target: np.dtype[Any]) -> bool:
    """Tell whether the memory of `values` is the array that was asked for."""
    return (
        _SHARED_DTYPES.get(values.dtype) == target
        and values.is_contiguous()
        and not values.is_conj()
        and not values._is_zerotensor()  # noqa: SLF001 - no public way
        # `detach` inside a torch.func transform wraps what came in unwrapped
        and not is_wrapped(values)
    )


def _is_safe_to_share(tensor: torch.Tensor, values: torch.Tensor) -> bool:
    """Tell whether nobody is likely to change the memory, and it is all wanted."""
    wanted_bytes = values.numel() * values.element_size()
    return not (
        isinstance(tensor, (torch.nn.Parameter, torch.nn.Buffer))
        or values.is_shared()  # type: ignore[no-untyped-call] # torch leaves it untyped
        or values.untyped_storage().nbytes() > _SLACK * wanted_bytes
    )


def _shared(values: torch.Tensor) -> NDArray[Any]:
    array = values.detach().numpy()  # a dual tensor has a tangent to drop
    array.flags.writeable = False
    return array


def _address(tensor: torch.Tensor) -> int | None:
    """Tell where a tensor's values start; None where they are not plain memory."""
    if tensor.layout is not torch.strided or not tensor.is_cpu:
        return None
    return tensor.data_ptr()
