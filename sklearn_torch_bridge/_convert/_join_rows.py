"""Rows, or batches of rows, joined into one preallocated array."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sklearn_torch_bridge._convert._cast import array_dtype, cast_into
from sklearn_torch_bridge._convert._copy_or_share import (
    SERIAL_LIMIT,
    fill,
    result_dtype,
)
from sklearn_torch_bridge._convert._unwrap_or_refuse import plain
from sklearn_torch_bridge._errors import ConversionError

__all__ = ["has_tensors", "join", "stack"]

_BATCH_NDIM = 2

_Block = torch.Tensor | NDArray[Any]


def has_tensors(items: Sequence[Any]) -> bool:
    """Tell whether a list or an object array holds tensors (or arrays of them)."""
    return any(isinstance(item, (torch.Tensor, np.ndarray)) for item in items)


def join(items: Sequence[Any], asked: np.dtype[Any] | None) -> NDArray[Any]:
    """Stack rows of one axis or none; join batches of two along the first axis.

    More axes leave it open which of the two is meant, so the caller must say.
    """
    blocks = [_block(item) for item in items]
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
    n_rows = sum(len(block) for block in blocks)
    out = np.empty((n_rows, *blocks[0].shape[1:]), _widest(blocks, asked))
    start = 0
    for block in blocks:
        _write(out[start : start + len(block)], block)
        start += len(block)
    return out


def stack(items: Sequence[Any], asked: np.dtype[Any] | None) -> NDArray[Any]:
    """Stack rows of any number of axes."""
    return _stacked([_block(item) for item in items], asked)


def _stacked(blocks: list[_Block], asked: np.dtype[Any] | None) -> NDArray[Any]:
    _check_shapes(blocks, from_axis=0)
    out = np.empty((len(blocks), *blocks[0].shape), _widest(blocks, asked))
    alike = [block for block in blocks if isinstance(block, torch.Tensor)]
    if len(alike) < len(blocks) or len({block.dtype for block in alike}) > 1:
        for row, block in enumerate(blocks):
            _write(out[row : row + 1], block[None])
        return out
    # One call of torch a few rows, and one pass after it that finds them in the cache:
    # a call for each row took four times as long.
    step = max(1, SERIAL_LIMIT // max(1, alike[0].numel()))
    for start in range(0, len(alike), step):
        rows = torch.stack(alike[start : start + step])
        fill(out[start : start + len(rows)], rows)
    return out


def _block(item: Any) -> _Block:
    if isinstance(item, torch.Tensor):
        return plain(item)
    try:
        array = np.asarray(item)
    except (TypeError, ValueError, RuntimeError) as error:
        msg = f"a {type(item).__name__} in a list of rows holds no plain numbers."
        raise ConversionError(msg) from error
    if array.dtype.kind not in "biufc":
        msg = (
            f"a {type(item).__name__} of dtype {array.dtype} in a list of rows holds "
            "no plain numbers. Stack inner lists first."
        )
        raise ConversionError(msg)
    return array


def _check_shapes(blocks: list[_Block], *, from_axis: int) -> None:
    first = tuple(blocks[0].shape)
    for row, block in enumerate(blocks):
        shape = block.shape
        if len(shape) != len(first) or shape[from_axis:] != first[from_axis:]:
            what = "row" if from_axis == 0 else "batch"
            msg = (
                f"a list must hold equal shapes: {what} 0 has {first}, "
                f"{what} {row} has {tuple(shape)}. Pad or pool them first."
            )
            raise ValueError(msg)


def _widest(blocks: list[_Block], asked: np.dtype[Any] | None) -> np.dtype[Any]:
    kinds = {block.dtype for block in blocks}
    dtypes = [
        result_dtype(kind, asked)
        if isinstance(kind, torch.dtype)
        else array_dtype(kind, asked)
        for kind in kinds
    ]
    return np.result_type(*dtypes)


def _write(out: NDArray[Any], block: _Block) -> None:
    if isinstance(block, torch.Tensor):
        fill(out, block)
    else:
        cast_into(out, block)
