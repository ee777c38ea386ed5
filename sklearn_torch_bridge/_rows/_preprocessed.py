"""Rows of any kind, sent through a `preprocess` a batch at a time.

It is the caller's, or the one that the model brings for rows that no array holds.
"""

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sklearn_torch_bridge._convert import deep_fault
from sklearn_torch_bridge._errors import ConversionError, ForwardError
from sklearn_torch_bridge._row_numbers import as_indices
from sklearn_torch_bridge._rows._base import (
    CheckedRows,
    Feed,
    FeedError,
    Kind,
    Receiver,
)
from sklearn_torch_bridge._rows._entry_faults import is_array
from sklearn_torch_bridge._rows._given_input import Given, as_entries, is_number
from sklearn_torch_bridge._rows._model_dtype import as_argument
from sklearn_torch_bridge._rows._refused_texts import why_refused
from sklearn_torch_bridge._rows._sound_windows import sound_windows
from sklearn_torch_bridge._types import (
    Indices,
    Inputs,
    Preprocess,
    Rows,
    UnevenBatchError,
)
from sklearn_torch_bridge.models import (
    AcceptedInputs,
    Maximum,
    SoundRows,
    check_length,
    media_of,
    read_mask,
)

__all__ = ["PREPROCESSED", "RowFeed", "cut_as_asked", "preprocessed_feed"]


class _Preprocessed(Kind):
    """Rows of any kind for the caller's own code, which may take missing ones."""

    name = "rows for `preprocess`"

    def recognises(self, given: Given) -> bool:
        if not given.has_own_preprocess() or given.entries is None:
            return False
        return given.all_missing or not is_number(given.first)

    def check(self, given: Given) -> CheckedRows:
        entries = as_entries(given.X)
        return CheckedRows(self, entries, len(entries))


PREPROCESSED = _Preprocessed()


def preprocessed_feed(values: Any, preprocess: Any, receiver: Receiver) -> Feed:
    """Return a feed of rows for a `preprocess`, which may know their lengths."""
    made = media_of(preprocess, receiver.loaded.module) or preprocess
    windows = sound_windows(values, made, receiver)
    if windows is not None:
        return windows
    made, maximum = cut_as_asked(made, receiver)
    lengths_of = getattr(made, "lengths", None)
    feed = RowFeed(
        values,
        made,
        receiver.accepts.dtype,
        accepts=receiver.accepts,
        lengths=lengths_of(values) if lengths_of else None,
        even=getattr(made, "even", False),
        padded_by=preprocess if _may_pad(values, made) else None,
        # The caller's own code gets masked arrays as they are.
        refuses_masks=made is not receiver.preprocess,
    )
    full = None if maximum is None else made.full_lengths(values)
    if full is not None:
        feed.maximum, feed.full_lengths = maximum, full
    return feed


def cut_as_asked(made: Any, receiver: Receiver) -> tuple[Any, Maximum | None]:
    """Return what prepares rows and cuts them at the maximum, and that.

    What is not made to cut rows, as the caller's own code, is left as it is.
    """
    if not hasattr(made, "cut_at"):
        return made, None
    maximum: Maximum | None = made.maximum
    if receiver.max_length is not None:
        unit, least = made.unit, made.least
        maximum = check_length(receiver.max_length, maximum, unit=unit, least=least)
    return (made if maximum is None else made.cut_at(maximum)), maximum


def _may_pad(values: Any, preprocess: Any) -> bool:
    """Return whether rows may be padded: those of one array are of one length."""
    has_objects = getattr(getattr(values, "dtype", None), "hasobject", False)
    is_even = is_array(values) and not has_objects
    return getattr(preprocess, "pads", True) and not is_even


class RowFeed(Feed):
    """Rows of any kind; a list of those of a batch goes through `preprocess`.

    `what` is what errors say has failed. With `only_stacks` it pads no row to others.
    Only code of the caller may get masks.
    """

    def __init__(
        self,
        rows: Any,
        preprocess: Preprocess,
        dtype: torch.dtype | None,
        *,
        accepts: AcceptedInputs | None = None,
        lengths: NDArray[np.int64] | None = None,
        even: bool = False,
        padded_by: Any = None,
        what: str = "`preprocess`",
        refuses_masks: bool = True,
    ) -> None:
        self.lengths = lengths
        self.even = self.only_stacks = even
        self.keeps_shape = True  # as long as each row is alone
        self._padded_by = padded_by
        self._low_rates: dict[int, tuple[int, int]] = {}
        self._rows = rows
        self._preprocess = preprocess
        self._dtype = dtype
        self._accepts = accepts
        self._what = what
        self._refuses_masks = refuses_masks

    @property
    def padded_by(self) -> Any:
        """What may pad rows: `preprocess`, or a name for it."""
        return self._padded_by

    @property
    def sizes(self) -> NDArray[np.int64] | None:
        """How long rows are before `preprocess`, where they have a length."""
        if self.lengths is not None or not isinstance(self._rows, list):
            return self.lengths
        if not all(hasattr(type(row), "__len__") for row in self._rows):
            return None
        return np.array([_size(row) for row in self._rows], np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, rows: Rows) -> Inputs:
        """Hand a list of these rows to `preprocess`."""
        places = as_indices(rows)
        self.keeps_shape &= self.only_stacks or len(places) == 1
        try:
            made = self._made(places)
        except UnevenBatchError:
            raise
        except Exception as error:  # noqa: BLE001 - it is raised below
            failed, reason = self._find_failing(places, error)
            is_read = not isinstance(self._rows, list)  # which may fail again
            why = why_refused(None if is_read else self._rows[failed[0]], reason)
            raise FeedError(
                failed,
                lambda named: ForwardError(f"{self._what} failed on {named}: {why}"),
            ) from reason
        return _as_inputs(made, self._dtype, self._accepts)

    @property
    def low_rates(self) -> Mapping[int, tuple[int, int]]:
        """The rates of sound below the model's, of the rows prepared so far."""
        return self._low_rates

    def _made(self, places: Indices) -> Any:
        """Return what `preprocess` makes of rows, whose values must be there."""
        rows = [self._copied(row) for row in places]
        if isinstance(self._preprocess, SoundRows):
            made = self._of_sound(self._preprocess, rows, places)
        else:
            made = self._preprocess(rows)
        if fault := deep_fault(made):
            msg = f"what it makes of rows {fault}."
            raise ConversionError(msg)
        return made

    def _of_sound(self, sound: SoundRows, rows: list[Any], places: Indices) -> Any:
        """Return what a model takes of sound, and note which is of a low rate."""
        clips = sound.clips(rows)
        for place, clip in zip(places, clips, strict=True):
            if clip.rate < sound.rate:
                self._low_rates[int(place)] = clip.rate, sound.rate
        return sound.features(clips)

    def _copied(self, row: int) -> Any:
        """Return one row, which `preprocess` may write to."""
        value = self._rows[row]
        if fault := deep_fault(value, masks=self._refuses_masks):
            msg = f"it {fault}. Load its values, or call .filled(value), first."
            raise ConversionError(msg)
        if isinstance(value, torch.Tensor):
            return value.clone()
        if isinstance(value, np.ndarray):  # a mask is not to be lost in silence
            return np.array(value, subok=isinstance(value, np.ma.MaskedArray))
        return value

    def _find_failing(
        self, places: Indices, error: Exception
    ) -> tuple[Indices, Exception]:
        """Find the first row that fails by itself, to name it alone.

        Where none does, and they come in several shapes, the batch is to be parted.
        """
        shapes: list[Hashable] = []
        for place in places if len(places) > 1 else ():
            try:
                made = self._made(np.array([place]))
                shapes.append(_shapes_of(_as_inputs(made, self._dtype, self._accepts)))
            except Exception as reason:  # noqa: BLE001 - the caller raises it
                return np.array([place]), reason
        if len(set(shapes)) > 1:
            self.only_stacks = self.keeps_shape = True  # else it would have padded
            raise UnevenBatchError.grouped(shapes) from error
        return places, error


def _size(row: Any) -> int:
    """Count the values of an array, the letters of a text, or those of several parts.

    >>> _size({"text": "what", "image": np.zeros((2, 3))})
    10
    """
    if isinstance(row, Mapping):
        return sum(map(_size, row.values()))
    if isinstance(row, tuple):
        return sum(map(_size, row))
    shape = getattr(row, "shape", None)
    if shape is not None:
        return math.prod(shape)
    return len(row) if hasattr(type(row), "__len__") else 1


def _shapes_of(inputs: Inputs) -> Hashable:
    """Return the shapes of the arguments of a call for one row."""
    values: list[tuple[Any, Any]] = [*enumerate(inputs.args), *inputs.kwargs.items()]
    for _, value in list(values):
        if isinstance(value, Mapping):
            values += value.items()
    return tuple((name, np.shape(value)) for name, value in values if is_array(value))


def _as_inputs(
    made: Any, dtype: torch.dtype | None, accepts: AcceptedInputs | None
) -> Inputs:
    """Turn what `preprocess` returned into the arguments of a call."""
    if isinstance(made, Inputs):
        return made
    if isinstance(made, Mapping):
        kwargs = {str(name): as_argument(value, dtype) for name, value in made.items()}
        if accepts is not None and accepts.takes_one_mapping(kwargs):
            return Inputs(args=(kwargs,), mask=read_mask(kwargs))
        return Inputs(kwargs=kwargs, mask=read_mask(kwargs))
    if isinstance(made, (torch.Tensor, np.ndarray)):
        return Inputs(args=(as_argument(made, dtype),))
    if isinstance(made, tuple):
        return Inputs(args=tuple(as_argument(value, dtype) for value in made))
    if callable(getattr(made, "to", None)):  # a batch of graphs, say
        return Inputs(args=(made,))
    msg = (
        "`preprocess` must return a tensor, a tuple of tensors, or a mapping of "
        f"keyword arguments, got {type(made).__name__}. One object of another kind, as "
        "a batch of graphs, must move to a device by its `to`."
    )
    raise TypeError(msg)
