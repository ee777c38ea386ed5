"""Any tensor, array-like or output of a model to an array."""

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import DTypeLike

from sklearn_torch_bridge._convert._array_likes import (
    as_array,
    recast_array,
    refuse_kind,
    tensor_rows,
)
from sklearn_torch_bridge._convert._copy_or_share import copy_or_share, refuse_sharing
from sklearn_torch_bridge._convert._dtypes import check_numeric
from sklearn_torch_bridge._convert._exact_integers import kept_integers
from sklearn_torch_bridge._convert._join_rows import join
from sklearn_torch_bridge._convert._select_output import is_container, select_output
from sklearn_torch_bridge._convert._sparse_tensors import recast_scipy, to_scipy
from sklearn_torch_bridge._convert._unwrap_or_refuse import (
    SPARSE_LAYOUTS,
    TENSOR_TYPES,
    unwrap,
)
from sklearn_torch_bridge._errors import ConversionError
from sklearn_torch_bridge._torch_private import count_modes, outside_modes
from sklearn_torch_bridge._types import Selector

__all__ = ["output_or_rows", "to_numpy"]

_COPY_TYPES = frozenset({bool, type(None)})


def to_numpy(
    obj: Any,
    *,
    dtype: DTypeLike | None = None,
    copy: bool | None = True,
    output: Selector = None,
) -> Any:
    """Convert any tensor to an array that NumPy, SciPy and scikit-learn can use.

    Parameters
    ----------
    obj : torch.Tensor, array-like, or a model's output
        A tensor of any device, dtype and layout, with or without gradient. Of a list,
        tensors of one axis or none are rows, which are stacked; those of two axes are
        batches, which are joined. A tuple, mapping, dataclass or ``ModelOutput`` with
        several values needs `output`.
    dtype : dtype, default=None
        Of the result. None keeps the tensor's own, with half types (float16, bfloat16,
        float8) widened to float32. Complex values need a complex dtype.
    copy : bool or None, default=True
        True: the result owns its memory. None: it shares the tensor's, read-only,
        where that is safe: not for parameters, memory shared with other processes and
        small views of large storages. False: it shares, read-only, or raises.
    output : str, int, tuple of these or None, default=None
        The field of a model's output to take; a name, from each of a list of outputs.
        A tuple leads to what is nested: ``(1, 0)`` is the field 0 of the field 1.

    Returns
    -------
    array : ndarray or scipy.sparse array
        Of the tensor's shape, in C order, on the CPU. Sparse tensors become CSR (CSC
        stays) with int32 indices and duplicates summed.

    Raises
    ------
    ConversionError
        If the values cannot be had. The message says what to call instead.
    ValueError
        If a value does not fit into `dtype`, rows differ in shape, indices of a
        sparse tensor are invalid, or sharing was asked and is impossible.

    Notes
    -----
    One pass over the values, into memory that NumPy allocates; the tensor is not
    changed, and the storage of a copied one can still be resized. Sharing makes
    PyTorch lock the size of the storage. A mixed list takes the widest dtype. There
    is a table of all kinds in ``docs/conversion.md``.

    Examples
    --------
    >>> import torch
    >>> to_numpy(torch.tensor([1.0, 2.0], dtype=torch.bfloat16, requires_grad=True))
    array([1., 2.], dtype=float32)
    >>> to_numpy([torch.ones(2, 1), torch.zeros(1, 1)]).ravel()
    array([1., 1., 0.], dtype=float32)
    >>> to_numpy({"loss": torch.zeros(()), "logits": torch.ones(1, 2)}, output="logits")
    array([[1., 1.]], dtype=float32)
    """
    if count_modes():
        return outside_modes(to_numpy)(obj, dtype=dtype, copy=copy, output=output)
    if copy is not True and type(copy) not in _COPY_TYPES:
        msg = f"`copy` must be True, False or None, got {copy!r}."
        raise ValueError(msg)
    asked = None if dtype is None else check_numeric(dtype)
    is_tensor = output is None and type(obj) in TENSOR_TYPES
    value = obj if is_tensor else output_or_rows(obj, output)
    if isinstance(value, torch.Tensor):
        if value.layout is not torch.strided and value.layout in SPARSE_LAYOUTS:
            return to_scipy(unwrap(value, allow_sparse=True), asked, copy=copy)
        return copy_or_share(value, asked, copy=copy)
    if sp.issparse(value):
        return recast_scipy(value, asked, copy=copy)
    rows = tensor_rows(value)
    if rows is None:
        array = as_array(value)
        rows = tensor_rows(array)
    if rows is None:
        return kept_integers(value, array, recast_array(array, asked, copy=copy))
    if not isinstance(value, list):
        _refuse_matrices(rows)
    refuse_sharing(copy, "values in several pieces are joined")
    return join(rows, asked)


def _refuse_matrices(entries: list[Any]) -> None:
    """Refuse entries of an array that are no rows of one axis, though each is a row."""
    for entry in entries:
        if getattr(entry, "ndim", 0) > 1:
            msg = (
                f"an array of {len(entries)} arrays, the first with several axes of "
                f"shape {tuple(entry.shape)}, has an array for each row. Pool each to "
                "one vector, or call np.stack(rows), or np.concatenate(rows) to join "
                "their tokens."
            )
            raise ConversionError(msg)


def output_or_rows(obj: Any, output: Selector) -> Any:
    """Return the output meant, or lists of rows and of batches as they are."""
    if output is not None:
        first = output[0] if isinstance(output, tuple) else output
        if isinstance(obj, list) and isinstance(first, str):
            return [select_output(item, output) for item in obj]
        return select_output(obj, output)
    if isinstance(obj, list) or sp.issparse(obj) or not is_container(obj):
        return obj
    refuse_kind(obj)
    # A tuple of rows, which have one axis at most; a model returns outputs as a tuple.
    if type(obj) is tuple and len(obj) != 1:
        arrays = (item for item in obj if isinstance(item, (torch.Tensor, np.ndarray)))
        if all(item.ndim <= 1 for item in arrays):
            return list(obj)
    return select_output(obj)
