"""Arrays, and whatever NumPy, DLPack or ``__array__`` make one of, as arrays."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sklearn_torch_bridge._convert._checked_cast import cast
from sklearn_torch_bridge._convert._copy_or_share import refuse_sharing
from sklearn_torch_bridge._convert._dtypes import array_dtype
from sklearn_torch_bridge._convert._hidden_values import check_there, is_masked
from sklearn_torch_bridge._errors import ConversionError
from sklearn_torch_bridge._types import NUMERIC_KINDS

__all__ = ["as_array", "recast_array", "refuse_kind", "tensor_rows"]

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
_DLPACK_CPU = 1


def as_array(obj: Any) -> NDArray[Any]:
    """Return an array-like as an array, without a copy where it has one."""
    refuse_kind(obj)
    check_there(obj)
    if hasattr(obj, "__dlpack__") and not hasattr(obj, "__array__"):
        # Never for a torch tensor, whose lazy bits and wrappers it does not see.
        if obj.__dlpack_device__()[0] == _DLPACK_CPU:
            return np.from_dlpack(obj)
        msg = f"a {type(obj).__name__} is not on the CPU. Copy it there first."
        raise ConversionError(msg)
    try:
        array = np.asanyarray(obj)
    except ValueError as error:
        raise ValueError(_ragged(obj, error)) from error
    except (TypeError, RuntimeError) as error:
        msg = f"a {type(obj).__name__} has no array on the CPU: {error}"
        raise ConversionError(msg) from error
    refuse_kind(array)  # as masked as what `obj` makes of itself
    return np.asarray(array)


def tensor_rows(obj: Any) -> list[Any] | None:
    """Return the rows of a list or an object array of tensors; None for all else."""
    rows = obj if isinstance(obj, list) else []
    if isinstance(obj, np.ndarray) and obj.dtype == object and obj.ndim:
        rows = obj.ravel().tolist() if obj.size == len(obj) else []
    has_tensors = any(isinstance(row, (torch.Tensor, np.ndarray)) for row in rows)
    return rows if has_tensors else None


def recast_array(
    array: NDArray[Any], asked: np.dtype[Any] | None, *, copy: bool | None
) -> NDArray[Any]:
    """Copy or share an array of numbers, in C order and of the dtype asked for."""
    if array.dtype.kind not in NUMERIC_KINDS:
        what = f"an array of dtype {array.dtype} holds no plain numbers"
        msg = f"{what}. Encode or cast it first."
        raise ConversionError(msg)
    target = array_dtype(array.dtype, asked)
    if copy is not True and array.dtype == target and array.flags.c_contiguous:
        view = array.view()
        view.flags.writeable = False
        return view
    refuse_sharing(copy, f"{array.dtype} as contiguous {target} needs its own memory")
    return cast(array, target)


def refuse_kind(obj: Any) -> None:
    """Refuse what NumPy would wrap, stack or misread; the error says what to call."""
    for base in type(obj).__mro__ if type(obj) is not np.ndarray else ():
        if base is np.ma.MaskedArray and not is_masked(obj):
            continue
        hint = _HINTS.get(base.__name__)
        if hint and base.__module__.partition(".")[0] in _HINTED_PACKAGES:
            msg = f"a {type(obj).__name__} cannot be an array. {hint}"
            raise ConversionError(msg)


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
