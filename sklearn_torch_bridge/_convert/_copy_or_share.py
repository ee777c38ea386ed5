"""A dense tensor as an array: a safe copy of its values, or a view of its memory."""

import functools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sklearn_torch_bridge._convert._checked_cast import FirstRow, cast_into, later_rows
from sklearn_torch_bridge._convert._dtypes import (
    HELD_DTYPES,
    SHARED_DTYPES,
    check_complex,
    held_dtype,
    holds_all,
    result_dtype,
)
from sklearn_torch_bridge._convert._unwrap_or_refuse import unwrap
from sklearn_torch_bridge._torch_private import has_no_memory, is_wrapped

__all__ = ["SERIAL_LIMIT", "copy_or_share", "copy_values", "fill", "refuse_sharing"]

_WRITTEN_BY_TORCH = frozenset({*SHARED_DTYPES.values(), np.dtype(np.float16)})

# The most elements that torch copies without starting threads (its grain size). That
# many also stay in the cache between being widened and being checked.
SERIAL_LIMIT = 32_767
# From here on threads save more than waiting for them can cost.
_WORTH_WAITING = 2**22
# A view keeps its whole storage alive: a copy is cheaper than twice the memory.
_SLACK = 2


def copy_or_share(
    tensor: torch.Tensor, asked: np.dtype[Any] | None, *, copy: bool | None
) -> NDArray[Any]:
    """Convert a tensor that is not sparse to a C-contiguous array."""
    values = unwrap(tensor)
    held = HELD_DTYPES.get(values.dtype)
    if copy is True and asked is None and held is not None and held.kind != "c":
        # The usual call, without the checks that only concern others.
        out = np.empty(tuple(values.shape), held)
        copy_values(torch.from_numpy(out), values)
        return out
    target = result_dtype(values.dtype, asked)
    if copy is not True:
        is_ours = _is_safe_to_share if copy is None else _is_one_memory
        if _can_share(values, target) and is_ours(tensor, values):
            array = values.detach().numpy()  # a dual tensor has a tangent to drop
            array.flags.writeable = False
            return array
        why = f"{tensor.dtype} in its layout is no contiguous {target} array"
        refuse_sharing(copy, why)
    out = np.empty(values.shape, target)
    fill(out, values)
    return out


def fill(out: NDArray[Any], values: torch.Tensor, *, first_row: FirstRow = 0) -> None:
    """Write a strided CPU tensor into `out`, of its shape, in one pass.

    NumPy allocates (in huge pages, and the tensor's storage stays resizable); torch
    writes, and resolves strides and lazy bits on the way.
    """
    if _is_written_by_torch(values.dtype, out.dtype):
        copy_values(torch.from_numpy(out), values)
    else:
        rows = np.atleast_1d(out)
        _fill_checked(rows, values.reshape(rows.shape), first_row)


def copy_values(out: torch.Tensor, values: torch.Tensor) -> None:
    """Copy in one pass, in pieces where threads would wait longer than they work.

    torch starts threads from 32,768 elements on and waits for all of them: on a busy
    machine 8 ms. Pieces below that are 20 times faster there, and half as fast on an
    idle one.
    """
    n_values = values.numel()
    is_medium = SERIAL_LIMIT < n_values < _WORTH_WAITING
    if not is_medium or torch.get_num_threads() == 1:
        out.copy_(values)
        return
    if values.is_contiguous():
        out, values = out.view(-1), values.view(-1)
    step = max(1, SERIAL_LIMIT * len(values) // n_values)
    for start in range(0, len(values), step):
        out[start : start + step].copy_(values[start : start + step])


@functools.cache
def _is_written_by_torch(dtype: torch.dtype, target: np.dtype[Any]) -> bool:
    """Check whether `copy_` may write such values: none can be lost on the way."""
    held = held_dtype(dtype)
    if held.kind == "c":
        check_complex(dtype, target)
    return held == target or (target in _WRITTEN_BY_TORCH and holds_all(target, held))


def _fill_checked(out: NDArray[Any], values: torch.Tensor, first_row: FirstRow) -> None:
    """Write in pieces that stay in the cache while they are checked."""
    n_rows = len(values)
    step = max(1, SERIAL_LIMIT // max(1, values[:1].numel()))
    held = held_dtype(values.dtype)
    scratch = np.empty((min(step, n_rows), *values.shape[1:]), held)
    for start in range(0, n_rows, step):
        piece = values[start : start + step]
        widened = scratch[: len(piece)]
        torch.from_numpy(widened).copy_(piece)
        rows = out[start : start + step]
        cast_into(rows, widened, first_row=later_rows(first_row, start))


def _can_share(values: torch.Tensor, target: np.dtype[Any]) -> bool:
    """Check whether the memory of `values` is the array that was asked for."""
    return (
        SHARED_DTYPES.get(values.dtype) == target
        and values.is_contiguous()
        and not values.is_conj()
        and not has_no_memory(values)
        # `detach` inside a torch.func transform wraps what came in unwrapped
        and not is_wrapped(values)
    )


def _is_safe_to_share(tensor: torch.Tensor, values: torch.Tensor) -> bool:
    """Check whether nobody is likely to change the memory, and all of it is used."""
    used_bytes = values.numel() * values.element_size()
    return not (
        isinstance(tensor, (torch.nn.Parameter, torch.nn.Buffer))
        or values.is_shared()  # type: ignore[no-untyped-call] # torch leaves it untyped
        or values.untyped_storage().nbytes() > _SLACK * used_bytes
    )


def _is_one_memory(tensor: torch.Tensor, values: torch.Tensor) -> bool:
    """Check whether `values` are the tensor's own, and not copied on the way."""
    is_in_memory = tensor.layout is torch.strided and tensor.is_cpu
    return is_in_memory and values.data_ptr() == tensor.data_ptr()


def refuse_sharing(copy: bool | None, why: str) -> None:
    """Raise if sharing was asked for where it is impossible."""
    if copy is False:
        msg = f"`copy` must be True or None for this input, got False: {why}."
        raise ValueError(msg)
