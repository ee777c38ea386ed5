"""Any `X` as rows, and rows as what a model takes."""

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse

from sklearn_torch_bridge._batching import as_indices, describe_rows
from sklearn_torch_bridge._convert import to_tensor
from sklearn_torch_bridge._errors import ForwardError
from sklearn_torch_bridge._types import Indices, Inputs, Preprocess, Rows

__all__ = [
    "ArrayFeed",
    "RowFeed",
    "TensorFeed",
    "as_rows",
    "as_texts",
    "check_even",
    "distinct_texts",
    "kind_of",
    "stack_tensors",
]

Kind = Literal["texts", "tensor", "tensors", "array", "rows"]

_TWO_AXES = 2
_CHEAP_BYTES = 1 << 20  # below, the allocator reuses memory by itself
_OURS_ALONE = 2  # the attribute, and the argument of getrefcount


def kind_of(X: Any, *, has_preprocess: bool = False) -> Kind:
    """Tell how to take `X`: by its type, or by its first row.

    >>> kind_of(["a", "b"]), kind_of([[1, 2]]), kind_of(torch.zeros(2, 3))
    ('texts', 'array', 'tensor')
    """
    if isinstance(X, torch.Tensor):
        return "tensor"
    countable = hasattr(X, "__len__") or hasattr(X, "__array__")
    whole = isinstance(X, (str, bytes, Mapping)) and not issparse(X)  # dok is a dict
    if whole or not countable:
        msg = (
            "`X` must be an array, a frame, a tensor, or a sequence with one entry a "
            f"row, got {type(X).__name__}."
        )
        raise TypeError(msg)
    column = _single_column(X)
    if column is None:
        return "array"
    first = next((item for item in column if not _is_missing(item)), None)
    if isinstance(first, str):
        return "texts"
    if has_preprocess and not isinstance(first, (int, float, np.number, type(None))):
        return "rows"
    if isinstance(first, torch.Tensor):
        return "tensors"
    if _is_foreign(first):
        msg = (
            f"`X` holds {type(first).__name__} objects: give a `preprocess` that makes "
            "of a list of them what the model takes."
        )
        raise TypeError(msg)
    return "array"


def as_rows(X: Any) -> list[Any]:
    """Return the entries of a list, a Series, an array or a frame of one column."""
    column = _single_column(X)
    return list(X if column is None else column)


def stack_tensors(tensors: Sequence[Any]) -> torch.Tensor:
    """Put tensors of one shape, one a row, into one."""
    for row, tensor in enumerate(tensors):
        if not isinstance(tensor, torch.Tensor):
            msg = (
                f"`X` must hold tensors in every row, but row {row} is a "
                f"{type(tensor).__name__}."
            )
            raise TypeError(msg)
        if tensor.shape != tensors[0].shape:
            msg = (
                "`X` must hold tensors of one shape, but row 0 has "
                f"{tuple(tensors[0].shape)} and row {row} has {tuple(tensor.shape)}. "
                "Pad them, or give a `preprocess` that does."
            )
            raise ValueError(msg)
    return torch.stack([tensor.detach() for tensor in tensors])


def check_even(X: Any) -> None:
    """Refuse a list of rows of different length, naming the first odd one."""
    if not isinstance(X, (list, tuple)) or not all(
        hasattr(row, "__len__") for row in X
    ):
        return
    for row, values in enumerate(X):
        if len(values) != len(X[0]):
            msg = (
                f"`X` must have rows of one length, but row 0 has {len(X[0])} and row "
                f"{row} has {len(values)}. Pad them, or give a `preprocess` that does."
            )
            raise ValueError(msg)


def as_texts(X: Any) -> list[str]:
    """Return the texts of a list, a Series, an array or a frame of one column."""
    column = _single_column(X)
    texts = [] if column is None else list(column)
    wrong = [row for row, text in enumerate(texts) if not isinstance(text, str)]
    if wrong:
        row, value = wrong[0], texts[wrong[0]]
        missing = _is_missing(value)
        msg = (
            f"`X` must hold str in every row, but row {row} is "
            f"{'missing: ' if missing else ''}{value!r}"
            f"{f' ({len(wrong)} such rows)' if len(wrong) > 1 else ''}."
        )
        if missing:
            msg += " Drop or fill missing texts first."
        raise (ValueError if missing else TypeError)(msg)
    return [str(text) for text in texts]


def distinct_texts(texts: Sequence[str]) -> tuple[list[str], Indices | None]:
    """Give each text once, and for each row which of them it is; None if all differ.

    >>> distinct_texts(["a", "b", "a"])
    (['a', 'b'], array([0, 1, 0]))
    """
    first: dict[str, int] = {}
    origin = np.array([first.setdefault(text, len(first)) for text in texts], np.intp)
    return list(first), None if len(first) == len(texts) else origin


class ArrayFeed:
    """The rows of an array; floats are cast to the model's dtype batch by batch."""

    lengths = None
    origin = None

    def __init__(self, array: NDArray[Any], dtype: torch.dtype) -> None:
        self._array = array
        self._dtype = dtype
        self._memory = _Spare()

    def __len__(self) -> int:
        return len(self._array)

    def batch(self, rows: Rows) -> Inputs:
        """Copy these rows: the caller's array is never wrapped, only read."""
        source = self._array[rows]
        memory = np.empty if source.nbytes < _CHEAP_BYTES else self._memory
        try:
            return Inputs((to_tensor(source, dtype=self._dtype, memory=memory),))
        except ValueError as error:
            error.add_note(f"While casting {describe_rows(rows)} of `X`.")
            raise

    def made_up(self) -> "ArrayFeed":
        """Give a feed of one row of the same shape."""
        row = np.zeros((1, *self._array.shape[1:]), self._array.dtype)
        return ArrayFeed(row, self._dtype)


class _Spare:
    """Memory for one batch after the other, as long as nobody keeps the last one.

    Fresh memory of some megabytes costs as much as the copy into it. Whatever wraps
    the memory (a tensor, a view of one that the model has kept) holds a reference to
    its array, so that the count of references tells.
    """

    def __init__(self) -> None:
        self._spare = np.empty(0, np.uint8)

    def __call__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        n_bytes = math.prod(shape) * dtype.itemsize
        if self._spare.nbytes < n_bytes or sys.getrefcount(self._spare) > _OURS_ALONE:
            self._spare = np.empty(n_bytes, np.uint8)
        return self._spare[:n_bytes].view(dtype).reshape(shape)


class TensorFeed:
    """The rows of a tensor, on whatever device it is."""

    lengths = None
    origin = None

    def __init__(self, tensor: torch.Tensor, dtype: torch.dtype) -> None:
        self._tensor = tensor.detach()
        self._dtype = dtype

    def __len__(self) -> int:
        return len(self._tensor)

    def batch(self, rows: Rows) -> Inputs:
        """Copy these rows, floats in the model's dtype."""
        own = self._tensor[rows].clone()
        return Inputs(args=(_cast(own, self._dtype),))

    def made_up(self) -> "TensorFeed":
        """Make up one row of the same shape."""
        return TensorFeed(
            self._tensor.new_zeros((1, *self._tensor.shape[1:])), self._dtype
        )


class RowFeed:
    """Rows of any kind, sent through the caller's `preprocess`."""

    def __init__(
        self,
        rows: Any,
        preprocess: Preprocess,
        dtype: torch.dtype | None,
        *,
        origin: Indices | None = None,
        lengths: NDArray[np.int64] | None = None,
    ) -> None:
        self.origin = origin
        self.lengths = lengths
        self._rows = rows
        self._preprocess = preprocess
        self._dtype = dtype

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, rows: Rows) -> Inputs:
        """Hand a list of these rows to `preprocess`."""
        given = [self._rows[row] for row in as_indices(rows)]
        if given and isinstance(given[0], (np.ndarray, torch.Tensor)):
            given = [
                row.clone() if isinstance(row, torch.Tensor) else np.array(row)
                for row in given
            ]
        try:
            made = self._preprocess(given)
        except Exception as error:
            places = as_indices(rows)
            if self.origin is not None:
                places = np.flatnonzero(np.isin(self.origin, places))
            msg = (
                f"`preprocess` failed on {describe_rows(places)}: "
                f"{type(error).__name__}: {error}"
            )
            raise ForwardError(msg) from error
        return _as_inputs(made, self._dtype)


def _as_inputs(made: Any, dtype: torch.dtype | None) -> Inputs:
    """Turn what `preprocess` returned into the arguments of a call."""
    if isinstance(made, Inputs):
        return made
    if isinstance(made, Mapping):
        kwargs = {str(name): _argument(value, dtype) for name, value in made.items()}
        mask = kwargs.get("attention_mask")
        return Inputs(kwargs=kwargs, mask=mask if _is_mask(mask) else None)
    if isinstance(made, (torch.Tensor, np.ndarray)):
        return Inputs(args=(_argument(made, dtype),))
    if isinstance(made, tuple):
        return Inputs(args=tuple(_argument(value, dtype) for value in made))
    msg = (
        "`preprocess` must return a tensor, a tuple of tensors, or a mapping of "
        f"keyword arguments, got {type(made).__name__}."
    )
    raise TypeError(msg)


def _argument(value: Any, dtype: torch.dtype | None) -> Any:
    tensor = to_tensor(value) if isinstance(value, np.ndarray) else value
    if isinstance(tensor, torch.Tensor) and dtype is not None:
        return _cast(tensor, dtype)
    return tensor


def _is_mask(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim == _TWO_AXES


def _cast(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Cast floats; integers and booleans stay."""
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _single_column(X: Any) -> Any:
    """Give the values of a list, a Series, a 1-D array or a one-column frame."""
    if isinstance(X, (list, tuple)):
        return X
    columns = getattr(X, "columns", None)
    if columns is not None:
        return X[columns[0]].to_list() if len(columns) == 1 else None
    if hasattr(X, "to_list"):
        return X.to_list()
    if isinstance(X, np.ndarray) and X.dtype.kind in "OUT":
        if X.ndim == 1:
            return X.tolist()
        if X.ndim == _TWO_AXES and X.shape[1] == 1:
            return X[:, 0].tolist()
    return None


def _is_missing(value: Any) -> bool:
    """Tell None, NaN and pandas' NA; NaN and NA do not equal themselves."""
    if value is None:
        return True
    if isinstance(value, (float, np.floating)):
        return bool(np.isnan(value))
    return type(value).__name__ in ("NAType", "NaTType")


def _is_foreign(value: Any) -> bool:
    """Tell rows that no array holds: images, paths, dicts."""
    number = isinstance(value, (int, float, complex, np.generic, type(None)))
    sequence = hasattr(value, "__len__") and not isinstance(value, Mapping)
    return not number and not sequence and not hasattr(value, "__array__")
