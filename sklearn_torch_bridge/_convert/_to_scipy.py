"""Sparse tensors as `scipy.sparse` arrays that scikit-learn takes."""

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from sklearn_torch_bridge._convert._cast import array_dtype, cast_into
from sklearn_torch_bridge._convert._copy_or_share import (
    array_of,
    held_dtype,
    result_dtype,
)
from sklearn_torch_bridge._errors import ConversionError

__all__ = ["recast_scipy", "to_scipy"]

_MATRIX = 2
_INT32_RANGE = 2**31
_NO_FLOAT16 = "`dtype` must be one that SciPy has for sparse data, got 'float16'."

# SciPy has no BSC: it is the BSR of the transpose.
_COMPRESSED = {
    torch.sparse_csr: (sp.csr_array, "col_indices", "crow_indices"),
    torch.sparse_csc: (sp.csc_array, "row_indices", "ccol_indices"),
    torch.sparse_bsr: (sp.bsr_array, "col_indices", "crow_indices"),
    torch.sparse_bsc: (sp.bsr_array, "row_indices", "ccol_indices"),
}


def to_scipy(
    tensor: torch.Tensor, asked: np.dtype[Any] | None, *, copy: bool | None
) -> Any:
    """Turn a plain sparse tensor into a CSR array, or a CSC one where it is CSC.

    Indices are int32 wherever they fit: LinearSVC, SGDClassifier, KMeans and others
    refuse int64, and a SciPy array would keep torch's.
    """
    _check_matrix(tensor)
    if asked == np.float16:
        raise ValueError(_NO_FLOAT16)
    target = result_dtype(tensor.dtype, asked)
    if copy is False:
        return _shared(tensor, target)
    # Widened before duplicates are summed: 60000 + 60000 is infinite in float16.
    wide = np.promote_types(held_dtype(tensor.dtype), target)
    try:
        if tensor.layout is torch.sparse_coo:
            matrix = _from_coo(tensor, wide)
        else:
            matrix = _from_compressed(tensor, wide)
        matrix.check_format(full_check=True)
    except ValueError as error:
        msg = f"a sparse tensor has invalid indices: {error}"
        raise ValueError(msg) from error
    if matrix.dtype != target:
        data = np.empty(matrix.data.shape, target)
        cast_into(data, matrix.data)
        matrix.data = data
    return matrix


def _check_matrix(tensor: torch.Tensor) -> None:
    if tensor.ndim != _MATRIX or tensor.dense_dim():
        dense = f", {tensor.dense_dim()} of them dense" if tensor.dense_dim() else ""
        msg = (
            f"a sparse tensor with {tensor.ndim} dimensions {tuple(tensor.shape)}"
            f"{dense} has no place: scikit-learn takes sparse data of two dimensions. "
            "Reshape it, or call .to_dense() first."
        )
        raise ConversionError(msg)


def _from_coo(tensor: torch.Tensor, wide: np.dtype[Any]) -> Any:
    # _indices and _values: the public ones want a coalesced tensor, and torch
    # coalesces in the tensor's own dtype, and three times slower than SciPy.
    values = array_of(tensor._values(), wide, copy=True)  # noqa: SLF001 - see above
    indices = _indices(tensor, tensor._indices(), len(values))  # noqa: SLF001 - see above
    return sp.coo_array((values, (indices[0], indices[1])), shape=tensor.shape).tocsr()


def _from_compressed(tensor: torch.Tensor, wide: np.dtype[Any]) -> Any:
    kind, along, pointers = _COMPRESSED[tensor.layout]
    values = array_of(tensor.values(), wide, copy=True)
    is_transposed = tensor.layout is torch.sparse_bsc
    matrix = kind(
        (
            values.swapaxes(1, 2) if is_transposed else values,
            _indices(tensor, getattr(tensor, along)(), values.size),
            _indices(tensor, getattr(tensor, pointers)(), values.size),
        ),
        shape=tensor.shape[::-1] if is_transposed else tensor.shape,
    )
    if kind is not sp.bsr_array:
        return matrix
    matrix.check_format(full_check=True)  # before SciPy follows the indices
    rows = matrix.tocsr()
    return rows.T.tocsr() if is_transposed else rows


def _indices(
    tensor: torch.Tensor, indices: torch.Tensor, n_values: int
) -> NDArray[Any]:
    fits = max(*tensor.shape, n_values) < _INT32_RANGE
    return array_of(indices, np.dtype(np.int32 if fits else np.int64), copy=True)


def _shared(tensor: torch.Tensor, target: np.dtype[Any]) -> Any:
    """Wrap the tensor's own values and indices, read-only."""
    kind, along, pointers = _COMPRESSED.get(tensor.layout, (None, "", ""))
    if kind not in (sp.csr_array, sp.csc_array):
        msg = (
            "`copy` must be True or None for this tensor, got False: a "
            f"{tensor.layout} tensor is rebuilt, never shared."
        )
        raise ValueError(msg)
    values, columns, starts = (
        array_of(part, dtype, copy=False)
        for part, dtype in (
            (tensor.values(), target),
            (getattr(tensor, along)(), np.dtype(np.int32)),
            (getattr(tensor, pointers)(), np.dtype(np.int32)),
        )
    )
    matrix = kind((values, columns, starts), shape=tensor.shape)
    matrix.check_format(full_check=True)
    return matrix


def recast_scipy(matrix: Any, asked: np.dtype[Any] | None, *, copy: bool | None) -> Any:
    """Copy a SciPy sparse container to CSR (CSC stays) of the dtype asked for."""
    if copy is False:
        msg = (
            "`copy` must be True or None for sparse data of SciPy, got False: it "
            "cannot be shared read-only without changing the caller's."
        )
        raise ValueError(msg)
    compressed = matrix.copy() if matrix.format == "csc" else matrix.tocsr(copy=True)
    data = compressed.data
    target = array_dtype(data.dtype, asked)
    if target == np.float16:
        raise ValueError(_NO_FLOAT16)
    if data.dtype != target:
        compressed.data = np.empty(data.shape, target)
        cast_into(compressed.data, data)
    if max(*compressed.shape, data.size) < _INT32_RANGE:
        compressed.indices = compressed.indices.astype(np.int32, copy=False)
        compressed.indptr = compressed.indptr.astype(np.int32, copy=False)
    return compressed
