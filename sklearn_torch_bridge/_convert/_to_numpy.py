"""Array <-> tensor: dtype, device, layout, copy or view."""

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import DTypeLike, NDArray

from sklearn_torch_bridge._convert._cast import array_dtype, cast_into, check_numeric
from sklearn_torch_bridge._convert._copy_or_share import (
    array_of,
    fill,
    numpy_dtype,
    result_dtype,
)
from sklearn_torch_bridge._convert._join_rows import has_tensors, join
from sklearn_torch_bridge._convert._select_output import is_container, select_output
from sklearn_torch_bridge._convert._to_scipy import recast_scipy, to_scipy
from sklearn_torch_bridge._convert._unwrap_or_refuse import (
    PLAIN_TYPES,
    SPARSE_LAYOUTS,
    count_modes,
    outside_modes,
    plain,
)
from sklearn_torch_bridge._errors import ConversionError
from sklearn_torch_bridge._tensor_bytes import Memory, fresh
from sklearn_torch_bridge._types import Rows, Selector

__all__ = [
    "as_array",
    "is_of",
    "numpy_dtype",
    "result_dtype",
    "selected",
    "tensor_rows",
    "to_numpy",
    "to_tensor",
    "write_rows",
]

# Looked up by class name, so that none of their modules has to be imported.
_HINTS = {
    "PackedSequence": "Call torch.nn.utils.rnn.pad_packed_sequence(p) and pool first.",
    "Module": "Call it on data and convert what it returns.",
    "Distribution": "Convert a sample, .mean or .logits of it.",
    "UntypedStorage": "Convert the tensor that owns it.",
    "TypedStorage": "Convert the tensor that owns it.",
    "Proxy": "It stands for a value while a graph is traced; convert the result.",
    "PyCapsule": "Pass the object it was made from.",
    "generator": "Collect it with list() first.",
    "Dataset": "Collect its rows in a list first.",
    "DataLoader": "Collect its batches in a list first.",
    "MaskedArray": "Its mask would be lost; call .filled(value) first.",
    "str": "Turn text into numbers first.",
    "bytes": "Use np.frombuffer with the dtype that you mean.",
    "NoneType": "Was it returned by mistake?",
}
_HINTED_PACKAGES = {"builtins", "numpy", "torch"}
_SAME = {
    torch.float16: np.dtype(np.float16),
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
}

_COPY_TYPES = frozenset({bool, type(None)})
_ROW_NDIM = 1
_DLPACK_CPU = 1


def to_numpy(
    obj: Any,
    *,
    dtype: DTypeLike | None = None,
    copy: bool | None = True,
    output: Selector = None,
) -> Any:
    """Turn any tensor into an array that NumPy, SciPy and scikit-learn can use.

    Parameters
    ----------
    obj : torch.Tensor, array-like, or a model's output
        A tensor of any device, dtype and layout, with or without gradient. A list of
        tensors of one axis or none: rows, which are stacked. A list of tensors of two
        axes: batches, which are joined. A tuple, mapping, dataclass or ``ModelOutput``
        with several values needs `output`. Half types (float16, bfloat16, float8) are
        widened to float32.
    dtype : dtype, default=None
        Of the result. None keeps the tensor's own, widened where it is a half type.
        A value that does not fit is an error; complex values need a complex dtype.
    copy : bool or None, default=True
        True: the result owns its memory. None: it shares the tensor's memory,
        read-only, where that is safe, and owns it elsewhere; parameters, memory
        shared with other processes and small views of large storages are copied.
        False: it shares, read-only, or raises.
    output : str, int or None, default=None
        The field of a model's output to take. Of a list of outputs a name is taken
        from each.

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
    value = (
        obj if output is None and type(obj) in PLAIN_TYPES else selected(obj, output)
    )
    if isinstance(value, torch.Tensor):
        if value.layout is not torch.strided and value.layout in SPARSE_LAYOUTS:
            return to_scipy(plain(value, allow_sparse=True), asked, copy=copy)
        return array_of(value, asked, copy=copy)
    if sp.issparse(value):
        return recast_scipy(value, asked, copy=copy)
    rows = tensor_rows(value)
    if rows is None:
        array = as_array(value)
        rows = tensor_rows(array)
    if rows is None:
        return _from_array(array, asked, copy=copy)
    _refuse_sharing(copy, "values in several pieces are joined")
    return join(rows, asked)


def selected(obj: Any, output: Selector) -> Any:
    """Take the one value meant; lists of rows and of batches stay as they are."""
    if output is not None:
        if isinstance(obj, list) and isinstance(output, str):
            return [select_output(item, output) for item in obj]
        return select_output(obj, output)
    if isinstance(obj, list) or sp.issparse(obj) or not is_container(obj):
        return obj
    _refuse_kind(obj)
    # What a model returns as a tuple are several things; rows have one axis at most.
    if (
        type(obj) is tuple
        and len(obj) != 1
        and max(map(_n_axes, obj), default=0) <= _ROW_NDIM
    ):
        return list(obj)
    return select_output(obj)


def is_of(held: np.dtype[Any], dtype: torch.dtype) -> bool:
    """Tell whether floats of an array lie in memory as those of a tensor do.

    >>> is_of(np.dtype("f4"), torch.float32), is_of(np.dtype(">f4"), torch.float32)
    (True, False)
    """
    return held is _SAME.get(dtype)


def to_tensor(
    array: NDArray[Any],
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    memory: Memory = fresh,
) -> torch.Tensor:
    """Copy an array into a tensor of its own.

    Read-only, memory-mapped and negatively strided arrays are fine: they are read,
    never wrapped. `dtype` is asked of floating arrays only; integers stay integers. A
    finite value that would become infinite is a ValueError. `memory` gives the tensor,
    on the CPU and of a shape and a NumPy dtype, that is written to.
    """
    held = array.dtype
    if dtype is None or held.kind != "f" or is_of(held, dtype):
        tensor = memory(array.shape, held if held.isnative else held.newbyteorder("="))
        np.copyto(tensor.numpy(), array)
        return tensor if device == "cpu" else tensor.to(device)
    tensor = memory(array.shape, numpy_dtype(dtype))
    cast_into(tensor.numpy(), array)
    if tensor.dtype == dtype:
        return tensor.to(device)
    halved = tensor.to(dtype)
    # NumPy has no such dtype to watch over its overflow.
    if not torch.equal(halved.float().isfinite(), tensor.isfinite()):
        msg = f"`dtype` must hold every value, got {dtype}: some would overflow."
        raise ValueError(msg)
    return halved.to(device)


@outside_modes
def write_rows(target: NDArray[Any], rows: Rows, source: torch.Tensor) -> None:
    """Write a batch of results into rows of the preallocated `target`.

    Neighbours, given as a slice, are written in one pass, scattered rows through a
    block.
    """
    values = plain(source)
    if isinstance(rows, slice):
        place = target[rows]
    else:
        place = np.empty((len(rows), *target.shape[1:]), target.dtype)
    if values.shape != place.shape:
        msg = (
            f"a batch must have shape {place.shape} to fill its rows, got "
            f"{tuple(values.shape)}. Pool rows of different length."
        )
        raise ValueError(msg)
    fill(place, values)
    if not isinstance(rows, slice):
        target[rows] = place


def _from_array(
    array: NDArray[Any], asked: np.dtype[Any] | None, *, copy: bool | None
) -> NDArray[Any]:
    if array.dtype.kind not in "biufc":
        msg = (
            f"an array of dtype {array.dtype} holds no plain numbers. Encode or cast "
            "it first."
        )
        raise ConversionError(msg)
    target = array_dtype(array.dtype, asked)
    if copy is not True and array.dtype == target and array.flags.c_contiguous:
        view = array.view()
        view.flags.writeable = False
        return view
    _refuse_sharing(copy, f"{array.dtype} as contiguous {target} needs its own memory")
    out = np.empty(array.shape, target)
    cast_into(out, array)
    return out


def as_array(obj: Any) -> NDArray[Any]:
    """Give an array-like as an array, without a copy where it has one."""
    _refuse_kind(obj)
    if hasattr(obj, "__dlpack__") and not hasattr(obj, "__array__"):
        # Never for a torch tensor, whose lazy bits and wrappers it does not see.
        if obj.__dlpack_device__()[0] == _DLPACK_CPU:
            return np.from_dlpack(obj)
        msg = f"a {type(obj).__name__} is not on the CPU. Copy it there first."
        raise ConversionError(msg)
    try:
        return np.asarray(obj)
    except ValueError as error:
        raise ValueError(_ragged(obj, error)) from error
    except (TypeError, RuntimeError) as error:
        msg = f"a {type(obj).__name__} has no array on the CPU: {error}"
        raise ConversionError(msg) from error


def tensor_rows(obj: Any) -> list[Any] | None:
    """Give the rows of a list or an object array of tensors; None of anything else."""
    rows: list[Any] = []
    if isinstance(obj, list):
        rows = obj
    elif isinstance(obj, np.ndarray) and obj.dtype == object and obj.ndim:
        rows = obj.ravel().tolist() if obj.size == len(obj) else []
    return rows if has_tensors(rows) else None


def _n_axes(item: Any) -> int:
    return item.ndim if isinstance(item, (torch.Tensor, np.ndarray)) else 0


def _refuse_kind(obj: Any) -> None:
    """Refuse what NumPy would wrap, stack or misread, and name the way out."""
    for base in type(obj).__mro__:
        if (
            base.__name__ in _HINTS
            and base.__module__.partition(".")[0] in _HINTED_PACKAGES
        ):
            msg = f"a {type(obj).__name__} cannot be an array. {_HINTS[base.__name__]}"
            raise ConversionError(msg)


def _refuse_sharing(copy: bool | None, why: str) -> None:
    if copy is False:
        msg = f"`copy` must be True or None for this input, got False: {why}."
        raise ValueError(msg)


def _ragged(obj: Any, error: ValueError) -> str:
    """Name the first row whose length differs."""
    lengths = [len(row) if hasattr(row, "__len__") else 1 for row in obj]
    for row, length in enumerate(lengths):
        if length != lengths[0]:
            return (
                f"rows must have equal lengths: row 0 has {lengths[0]}, row {row} has "
                f"{length}. Pad or pool them first."
            )
    return f"the rows have no common shape: {error}"
