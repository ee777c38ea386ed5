"""Rows, or batches of rows, written into one preallocated array."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sklearn_torch_bridge._convert._checked_cast import cast_into
from sklearn_torch_bridge._convert._copy_or_share import SERIAL_LIMIT, fill
from sklearn_torch_bridge._convert._dtypes import array_dtype, result_dtype
from sklearn_torch_bridge._convert._hidden_values import deep_fault
from sklearn_torch_bridge._convert._unwrap_or_refuse import unwrap
from sklearn_torch_bridge._errors import ConversionError
from sklearn_torch_bridge._torch_private import outside_modes
from sklearn_torch_bridge._types import NUMERIC_KINDS, Rows

__all__ = ["join", "stack", "write_rows"]

_BATCH_NDIM = 2

_Block = torch.Tensor | NDArray[Any]


def join(items: Sequence[Any], asked: np.dtype[Any] | None) -> NDArray[Any]:
    """Stack rows of one axis or none; join batches of two along the first axis."""
    blocks = _blocks(items)
    n_axes = blocks[0].ndim
    if n_axes < _BATCH_NDIM:
        return _stacked(blocks, asked)
    if n_axes > _BATCH_NDIM:
        msg = (
            f"a list of {len(blocks)} values of {n_axes} axes, the first of shape "
            f"{tuple(blocks[0].shape)}, may be rows or batches. Call torch.stack(rows) "
            "or torch.cat(batches) first."
        )
        raise ConversionError(msg)
    _check_shapes(blocks, from_axis=1)
    return _concatenated(blocks, asked)


def stack(items: Sequence[Any], asked: np.dtype[Any] | None) -> NDArray[Any]:
    """Stack rows of any number of axes."""
    return _stacked(_blocks(items), asked)


def _stacked(blocks: list[_Block], asked: np.dtype[Any] | None) -> NDArray[Any]:
    _check_shapes(blocks, from_axis=0)
    tensors = [block for block in blocks if isinstance(block, torch.Tensor)]
    if len(tensors) < len(blocks) or len({block.dtype for block in tensors}) > 1:
        return _concatenated([block[None] for block in blocks], asked)
    out = np.empty((len(blocks), *blocks[0].shape), _widest(blocks, asked))
    # One call of torch for a few rows, then one pass over them in the cache: a call for
    # each row took four times as long.
    step = max(1, SERIAL_LIMIT // max(1, tensors[0].numel()))
    for start in range(0, len(tensors), step):
        rows = torch.stack(tensors[start : start + step])
        fill(out[start : start + len(rows)], rows, first_row=start)
    return out


def _concatenated(blocks: list[_Block], asked: np.dtype[Any] | None) -> NDArray[Any]:
    shape = (sum(map(len, blocks)), *blocks[0].shape[1:])
    out = np.empty(shape, _widest(blocks, asked))
    start = 0
    for block in blocks:
        rows = out[start : start + len(block)]
        if isinstance(block, torch.Tensor):
            fill(rows, block, first_row=start)
        else:
            cast_into(rows, block, first_row=start)
        start += len(block)
    return out


@outside_modes
def write_rows(target: NDArray[Any], rows: Rows, source: torch.Tensor) -> None:
    """Write a batch of results into rows of `target`; scattered ones in two passes."""
    values = unwrap(source)
    if isinstance(rows, slice):
        block = target[rows]
    else:
        block = np.empty((len(rows), *target.shape[1:]), target.dtype)
    if values.shape != block.shape:
        msg = (
            f"a batch must have shape {block.shape} to fill its rows, got "
            f"{tuple(values.shape)}. Pool rows of different length."
        )
        raise ValueError(msg)
    numbers = (rows.start or 0) if isinstance(rows, slice) else rows
    fill(block, values, first_row=numbers)
    if not isinstance(rows, slice):
        target[rows] = block


def _blocks(items: Sequence[Any]) -> list[_Block]:
    blocks: list[_Block] = []
    for row, item in enumerate(items):
        try:
            blocks.append(_block(item))
        except ConversionError as error:
            msg = f"row {row} of a list cannot be converted: {error}"
            raise ConversionError(msg) from error
    return blocks


def _block(item: Any) -> _Block:
    if isinstance(item, torch.Tensor):
        return unwrap(item)
    if fault := deep_fault(item):
        msg = f"it {fault}."
        raise ConversionError(msg)
    try:
        array = np.asarray(item)
    except (TypeError, ValueError, RuntimeError) as error:
        msg = f"a {type(item).__name__} in a list of rows holds no plain numbers."
        raise ConversionError(msg) from error
    if array.dtype.kind not in NUMERIC_KINDS:
        what = f"a {type(item).__name__} of dtype {array.dtype} in a list of rows"
        msg = f"{what} holds no plain numbers. Stack inner lists first."
        raise ConversionError(msg)
    return array


def _check_shapes(blocks: list[_Block], *, from_axis: int) -> None:
    first, what = tuple(blocks[0].shape), ("row", "batch")[from_axis]
    for row, block in enumerate(blocks):
        shape = block.shape
        if len(shape) != len(first) or shape[from_axis:] != first[from_axis:]:
            joins = from_axis == 0 and len(first) > 1 and first[1:] == shape[1:]
            hint = " Where each entry is a batch, `to_numpy` joins them." * joins
            msg = (
                f"a list must hold equal shapes: {what} 0 has {first}, "
                f"{what} {row} has {tuple(shape)}. Pad or pool them first.{hint}"
            )
            raise ValueError(msg)


def _widest(blocks: list[_Block], asked: np.dtype[Any] | None) -> np.dtype[Any]:
    def result(own: Any) -> np.dtype[Any]:
        is_torch = isinstance(own, torch.dtype)
        return result_dtype(own, asked) if is_torch else array_dtype(own, asked)

    return np.result_type(*map(result, {block.dtype for block in blocks}))
