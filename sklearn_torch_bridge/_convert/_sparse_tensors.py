"""Sparse tensors as `scipy.sparse` arrays that scikit-learn takes."""

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from sklearn_torch_bridge._convert._checked_cast import cast
from sklearn_torch_bridge._convert._copy_or_share import copy_or_share, refuse_sharing
from sklearn_torch_bridge._convert._dtypes import array_dtype, held_dtype, result_dtype
from sklearn_torch_bridge._convert._sparse_indices import check_indices
from sklearn_torch_bridge._errors import ConversionError
from sklearn_torch_bridge._torch_private import sparse_indices, sparse_values

__all__ = ["recast_scipy", "to_scipy"]

_MATRIX = 2
_INT32_RANGE = 2**31
_NO_FLOAT16 = "`dtype` must be one that SciPy has for sparse data, got 'float16'."

# In which integers are summed: their own may be too short, and floats may round them.
_SUMS = {"i": np.int64, "u": np.uint64}

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
    """Convert a sparse tensor to a CSR array, or to a CSC one where it is CSC.

    Indices are int32 wherever they fit: LinearSVC, SGDClassifier, KMeans and others
    refuse int64, and a SciPy array would keep torch's.
    """
    if tensor.ndim != _MATRIX or tensor.dense_dim():
        dense = f", {tensor.dense_dim()} of them dense" if tensor.dense_dim() else ""
        msg = (
            f"a sparse tensor with {tensor.ndim} dimensions {tuple(tensor.shape)}"
            f"{dense} has no place: scikit-learn takes sparse data of two dimensions. "
            "Reshape it, or call .to_dense() first."
        )
        raise ConversionError(msg)
    if asked == np.float16:
        raise ValueError(_NO_FLOAT16)
    target = result_dtype(tensor.dtype, asked)
    if copy is False:
        if tensor.layout not in (torch.sparse_csr, torch.sparse_csc):
            refuse_sharing(copy, f"a {tensor.layout} tensor is rebuilt, never shared")
        shared = _compressed(tensor, target, copy=False)
        check_indices(shared)
        shared.check_format(full_check=True)
        return shared
    # Widened before duplicates are summed: 60000 + 60000 is infinite in float16.
    held = held_dtype(tensor.dtype)
    wide = np.dtype(_SUMS.get(held.kind, np.promote_types(held, target)))
    to_array = _from_coo if tensor.layout is torch.sparse_coo else _from_compressed
    try:
        matrix = to_array(tensor, wide)
        check_indices(matrix)
        matrix.check_format(full_check=True)
    except ValueError as error:
        msg = f"a sparse tensor has invalid indices: {error}"
        raise ValueError(msg) from error
    if matrix.dtype != target:
        matrix.data = cast(matrix.data, target)
    return matrix


def _from_coo(tensor: torch.Tensor, wide: np.dtype[Any]) -> Any:
    values = copy_or_share(sparse_values(tensor), wide, copy=True)
    indices = _indices(tensor, sparse_indices(tensor), len(values))
    matrix = sp.coo_array((values, tuple(indices)), shape=tensor.shape)
    check_indices(matrix)
    return matrix.tocsr()  # which sums duplicates


def _from_compressed(tensor: torch.Tensor, wide: np.dtype[Any]) -> Any:
    matrix = _compressed(tensor, wide, copy=True)
    if not isinstance(matrix, sp.bsr_array):
        return matrix
    check_indices(matrix)
    rows = matrix.tocsr()
    return rows.T.tocsr() if tensor.layout is torch.sparse_bsc else rows


def _compressed(tensor: torch.Tensor, dtype: np.dtype[Any], *, copy: bool) -> Any:
    """Make an array of the tensor's values and indices, copied or shared."""
    kind, along, pointers = _COMPRESSED[tensor.layout]
    values, shape = copy_or_share(tensor.values(), dtype, copy=copy), tensor.shape
    if tensor.layout is torch.sparse_bsc:
        values, shape = values.swapaxes(1, 2), shape[::-1]
    columns, starts = (
        _indices(tensor, getattr(tensor, name)(), values.size, copy=copy)
        for name in (along, pointers)
    )
    return kind((values, columns, starts), shape=shape)


def _indices(
    tensor: torch.Tensor, indices: torch.Tensor, n_values: int, *, copy: bool = True
) -> NDArray[Any]:
    fits = max(*tensor.shape, n_values) < _INT32_RANGE
    return copy_or_share(indices, np.dtype(np.int32 if fits else np.int64), copy=copy)


def recast_scipy(matrix: Any, asked: np.dtype[Any] | None, *, copy: bool | None) -> Any:
    """Copy a SciPy sparse container to CSR (CSC stays) of the dtype asked for."""
    refuse_sharing(
        copy, "a read-only view of SciPy's data would make the caller's read-only"
    )
    check_indices(matrix)
    compressed = matrix.copy() if matrix.format == "csc" else matrix.tocsr(copy=True)
    data = compressed.data
    target = array_dtype(data.dtype, asked)
    if target == np.float16:
        raise ValueError(_NO_FLOAT16)
    if data.dtype != target:
        compressed.data = cast(data, target)
    if max(*compressed.shape, data.size) < _INT32_RANGE:
        compressed.indices = compressed.indices.astype(np.int32, copy=False)
        compressed.indptr = compressed.indptr.astype(np.int32, copy=False)
    return compressed
