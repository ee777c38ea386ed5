"""Rows as what a model takes: a batch at a time, copied where it may write to them."""

import inspect
import math
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sklearn_torch_bridge._convert import is_of, to_tensor
from sklearn_torch_bridge._errors import ForwardError
from sklearn_torch_bridge._row_numbers import as_indices, describe_rows
from sklearn_torch_bridge._rows._columns import Columns
from sklearn_torch_bridge._tensor_bytes import Memory, fresh
from sklearn_torch_bridge._types import Feed, Indices, Inputs, Preprocess, Rows

__all__ = [
    "MASKS",
    "ArrayFeed",
    "ColumnsFeed",
    "RaggedFeed",
    "RowFeed",
    "SparseFeed",
    "SubsetFeed",
    "TensorFeed",
    "needs_mask",
    "stack_items",
]

_TWO_AXES = 2
_CHEAP_BYTES = 1 << 20  # below, the allocator reuses memory by itself
_OURS_ALONE = 2  # the attribute, and the argument of getrefcount


class ArrayFeed:
    """The rows of an array; floats are cast to the model's dtype batch by batch.

    Batches are copies, unless with `only_read` the model is known not to write to them.
    """

    lengths = None
    even = False

    def __init__(
        self,
        array: NDArray[Any],
        dtype: torch.dtype,
        memory: Memory | None = None,
        *,
        only_read: bool = False,
    ) -> None:
        self.row_size: int | None = math.prod(array.shape[1:])
        self._array = array
        self._dtype = dtype
        self._memory = memory
        self._spare = _Spare()
        self._as_it_is = only_read and is_of(array.dtype, dtype) and _can_wrap(array)

    def __len__(self) -> int:
        return len(self._array)

    def batch(self, rows: Rows) -> Inputs:
        """Copy these rows, or show them to a model that only reads."""
        source = self._array[rows]
        if self._as_it_is:
            return Inputs((torch.from_numpy(source),))
        memory = self._memory or (
            fresh if source.nbytes < _CHEAP_BYTES else self._spare
        )
        try:
            return Inputs((to_tensor(source, dtype=self._dtype, memory=memory),))
        except ValueError as error:
            reason = _overflow(source.dtype, self._dtype)
            reason.add_note(f"While casting {describe_rows(rows)} of `X`.")
            raise reason from error


def _can_wrap(array: NDArray[Any]) -> bool:
    """Tell whether torch takes rows of an array for what a copy of them would be.

    It warns of arrays that are read-only, and asks the strides, also those of axes of
    length 1, how values are laid out.
    """
    flags, stride = array.flags, array.itemsize
    if not (flags.writeable and flags.aligned):
        return False
    for size, own in zip(reversed(array.shape), reversed(array.strides), strict=True):
        if own != stride:
            return False
        stride *= size
    return True


class _Spare(threading.local):
    """Memory for one batch after the other, as long as nobody keeps the last one.

    Each thread has its own: two that ask at once must not get the same.

    Fresh memory of some megabytes costs as much as the copy into it. Whatever wraps
    the memory (a tensor, a view of one that the model has kept) holds a reference to
    its array, so that the count of references tells.
    """

    def __init__(self) -> None:
        self._spare = np.empty(0, np.uint8)

    def __call__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> torch.Tensor:
        n_bytes = math.prod(shape) * dtype.itemsize
        if self._spare.nbytes < n_bytes or sys.getrefcount(self._spare) > _OURS_ALONE:
            self._spare = np.empty(n_bytes, np.uint8)
        return torch.from_numpy(self._spare[:n_bytes].view(dtype).reshape(shape))


class TensorFeed:
    """The rows of a tensor, on whatever device it is."""

    lengths = None
    even = False

    def __init__(self, tensor: torch.Tensor, dtype: torch.dtype) -> None:
        self.row_size: int | None = math.prod(tensor.shape[1:])
        self._tensor = tensor.detach()
        self._dtype = dtype

    def __len__(self) -> int:
        return len(self._tensor)

    def batch(self, rows: Rows) -> Inputs:
        """Copy these rows, floats in the model's dtype."""
        own = self._tensor[rows].clone()
        return Inputs(args=(_cast(own, self._dtype),))


class SparseFeed:
    """The rows of a sparse matrix, dense for one batch at a time."""

    lengths = None
    even = False

    def __init__(self, matrix: Any, dtype: torch.dtype) -> None:
        self.row_size: int | None = matrix.shape[1]
        self._matrix = matrix
        self._dtype = dtype

    def __len__(self) -> int:
        n_rows: int = self._matrix.shape[0]
        return n_rows

    def batch(self, rows: Rows) -> Inputs:
        """Make an array of these rows, floats in the model's dtype."""
        return Inputs((to_tensor(self._matrix[rows].toarray(), dtype=self._dtype),))


class ColumnsFeed:
    """Columns as keyword arguments; ``attention_mask`` says which tokens are real."""

    lengths = None
    even = False

    def __init__(self, columns: Columns, dtype: torch.dtype, model: nn.Module) -> None:
        parameters = inspect.signature(model.forward).parameters
        takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
        unknown = [name for name in columns.by_name if name not in parameters]
        if unknown and not takes_any:
            msg = (
                f"`X` has the column {unknown[0]!r}, and `model` takes "
                f"{', '.join(map(repr, parameters))}."
            )
            raise ValueError(msg)
        sizes = [math.prod(one.shape[1:]) for one in columns.by_name.values()]
        self.row_size: int | None = sum(sizes)
        self._columns = columns
        self._dtype = dtype

    def __len__(self) -> int:
        return len(self._columns)

    def batch(self, rows: Rows) -> Inputs:
        """Copy these rows of each column, floats in the model's dtype."""
        taken = self._columns[rows].by_name
        kwargs = {name: _own(values, self._dtype) for name, values in taken.items()}
        return Inputs(kwargs=kwargs, mask=_mask_among(kwargs))


class SubsetFeed:
    """Some rows of another feed, in the order given."""

    lengths = None
    even = False

    def __init__(self, feed: Feed, which: Indices) -> None:
        self.row_size = feed.row_size
        self._feed = feed
        self._which = which

    def __len__(self) -> int:
        return len(self._which)

    def batch(self, rows: Rows) -> Inputs:
        """Prepare these of the chosen rows; neighbours stay a slice."""
        chosen = self._which[rows]
        if len(chosen) and chosen[-1] - chosen[0] == len(chosen) - 1:
            return self._feed.batch(slice(int(chosen[0]), int(chosen[-1]) + 1))
        return self._feed.batch(chosen)


class RaggedFeed:
    """Arrays of different lengths, padded with zeros where the model takes a mask.

    Where its forward has no parameter for one, padding would change what the real
    entries give: there only rows of one length share a batch.
    """

    row_size = None

    def __init__(
        self,
        rows: Sequence[Any],
        dtype: torch.dtype,
        model: nn.Module,
        *,
        origin: Indices | None = None,
    ) -> None:
        self.lengths: NDArray[np.int64] | None = np.array([len(row) for row in rows])
        self._mask_name = _mask_name(model)
        self.even = self._mask_name is None
        self._rows = rows
        self._dtype = dtype
        self._origin = origin

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, rows: Rows) -> Inputs:
        """Copy these rows into one tensor as long as the longest of them."""
        given = [_own(self._rows[row], self._dtype) for row in as_indices(rows)]
        padded = nn.utils.rnn.pad_sequence(given, batch_first=True)
        if self._mask_name is None:
            return Inputs(args=(padded,))
        lengths = torch.tensor([len(row) for row in given], device=padded.device)
        steps = torch.arange(padded.shape[1], device=padded.device)
        mask = steps < lengths[:, None]
        given_mask = MASKS[self._mask_name].make(mask)
        return Inputs((padded,), {self._mask_name: given_mask}, mask)


class _Mask(NamedTuple):
    """How a model's mask is made of one that is True for what is real, and read."""

    make: Callable[[torch.Tensor], torch.Tensor]
    read: Callable[[torch.Tensor], torch.Tensor]


def _is_not_padding(mask: torch.Tensor) -> torch.Tensor:
    """Read a mask of torch's own layers: True, or -inf among floats, is padding."""
    if not mask.is_floating_point():
        return mask == 0
    return mask > torch.finfo(mask.dtype).min


# What a forward may call its mask.
MASKS = {
    "attention_mask": _Mask(make=lambda mask: mask.long(), read=lambda mask: mask),
    "src_key_padding_mask": _Mask(make=torch.logical_not, read=_is_not_padding),
}


def needs_mask(model: nn.Module) -> bool:
    """Tell whether a forward cannot be called without a mask."""
    name = _mask_name(model)
    if name is None:
        return False
    return _parameters(model)[name].default is inspect.Parameter.empty


def _mask_name(model: nn.Module) -> str | None:
    # Asked at each call: a signature takes a tenth of what one row costs.
    code: Any = getattr(model.forward, "__code__", None)
    takes_any = code is None or bool(code.co_flags & inspect.CO_VARKEYWORDS)
    if not takes_any and MASKS.keys().isdisjoint(code.co_varnames):
        return None
    parameters = _parameters(model)
    return next((name for name in MASKS if name in parameters), None)


def _parameters(model: nn.Module) -> Mapping[str, inspect.Parameter]:
    """Give the parameters of a forward; none of scripted ones, which tell nothing."""
    try:
        return inspect.signature(model.forward).parameters
    except ValueError:
        return {}


def _own(row: Any, dtype: torch.dtype) -> torch.Tensor:
    """Copy one row, floats in the model's dtype."""
    if isinstance(row, torch.Tensor):
        return _cast(row.detach().clone(), dtype)
    try:
        return to_tensor(row, dtype=dtype)
    except ValueError as error:
        raise _overflow(row.dtype, dtype) from error


class RowFeed:
    """Rows of any kind, sent through the caller's `preprocess`."""

    row_size = None

    def __init__(
        self,
        rows: Any,
        preprocess: Preprocess,
        dtype: torch.dtype | None,
        *,
        origin: Indices | None = None,
        lengths: NDArray[np.int64] | None = None,
        even: bool = False,
    ) -> None:
        self.lengths = lengths
        self.even = even
        self._origin = origin
        self._rows = rows
        self._preprocess = preprocess
        self._dtype = dtype

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, rows: Rows) -> Inputs:
        """Hand a list of these rows to `preprocess`."""
        places = as_indices(rows)
        try:
            made = self._preprocess([self._given(row) for row in places])
        except Exception as error:  # noqa: BLE001 - it is raised below
            failed, reason = self._find_failing(places, error)
            if self._origin is not None:
                failed = np.flatnonzero(np.isin(self._origin, failed))
            what = "stacking `X`" if self._preprocess is stack_items else "`preprocess`"
            msg = (
                f"{what} failed on {describe_rows(failed)}: "
                f"{type(reason).__name__}: {reason}"
            )
            raise ForwardError(msg) from reason
        return _as_inputs(made, self._dtype)

    def _given(self, row: int) -> Any:
        """Give one row, which `preprocess` may write to."""
        value = self._rows[row]
        if isinstance(value, torch.Tensor):
            return value.clone()
        return np.array(value) if isinstance(value, np.ndarray) else value

    def _find_failing(
        self, places: Indices, error: Exception
    ) -> tuple[Indices, Exception]:
        """Find the first row that fails by itself, to name it alone."""
        for place in places if len(places) > 1 else ():
            try:
                self._preprocess([self._given(place)])
            except Exception as reason:  # noqa: BLE001 - the caller raises it
                return np.array([place]), reason
        return places, error


def stack_items(items: Sequence[Any]) -> Any:
    """Put the items of a Dataset into one tensor, or one for each key of theirs."""
    first = items[0]
    if isinstance(first, Mapping):
        return {key: stack_items([item[key] for item in items]) for key in first}
    tensors = [
        item if isinstance(item, torch.Tensor) else torch.as_tensor(np.asarray(item))
        for item in items
    ]
    shapes = dict.fromkeys(tuple(tensor.shape) for tensor in tensors)
    if len(shapes) > 1:
        msg = (
            "items must have one shape, got "
            f"{', '.join(map(str, shapes))}. Pad them in the Dataset, or give a "
            "`preprocess` that does."
        )
        raise ValueError(msg)
    stacked = torch.stack([tensor.detach() for tensor in tensors])
    if stacked.is_floating_point() and not bool(torch.isfinite(stacked).all()):
        msg = "an item must be finite, got NaN or infinity."
        raise ValueError(msg)
    return stacked


def _as_inputs(made: Any, dtype: torch.dtype | None) -> Inputs:
    """Turn what `preprocess` returned into the arguments of a call."""
    if isinstance(made, Inputs):
        return made
    if isinstance(made, Mapping):
        kwargs = {str(name): _argument(value, dtype) for name, value in made.items()}
        return Inputs(kwargs=kwargs, mask=_mask_among(kwargs))
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


def _mask_among(kwargs: Mapping[str, Any]) -> torch.Tensor | None:
    """Find the mask among the arguments of a model, as one of what is real."""
    for name, given in kwargs.items():
        is_mask = isinstance(given, torch.Tensor) and given.ndim == _TWO_AXES
        if name in MASKS and is_mask:
            return MASKS[name].read(given)
    return None


def _cast(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Cast floats, which must fit; integers and booleans stay."""
    held = tensor.dtype
    if not held.is_floating_point or held == dtype:
        return tensor
    cast = tensor.to(dtype)
    if torch.finfo(dtype).max < torch.finfo(held).max:
        lost = tensor.isfinite() & ~cast.isfinite()
        lowest = torch.finfo(held).min  # what stands for -inf in a mask
        if bool((lost & (tensor != lowest)).any()):
            raise _overflow(held, dtype)
    return cast


def _overflow(held: object, dtype: torch.dtype) -> ValueError:
    msg = (
        "`X`, or what `preprocess` makes of it, must fit the dtype of the model, "
        f"{dtype}, but a value of {held} would overflow. Scale it, or give the model "
        "in a wider dtype (`model.double()`)."
    )
    return ValueError(msg)
