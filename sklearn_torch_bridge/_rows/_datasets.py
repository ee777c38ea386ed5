"""Datasets of PyTorch, read when a batch needs them; and lists of their examples."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from sklearn_torch_bridge._convert import deep_fault
from sklearn_torch_bridge._errors import ConversionError
from sklearn_torch_bridge._rows._base import CheckedRows, Feed, Kind, Receiver
from sklearn_torch_bridge._rows._entry_faults import is_array, is_finite
from sklearn_torch_bridge._rows._given_input import Given, is_number
from sklearn_torch_bridge._rows._images_and_sound import (
    FILES,
    as_file,
    is_foreign,
    raw_media,
)
from sklearn_torch_bridge._rows._preprocessed import RowFeed, preprocessed_feed
from sklearn_torch_bridge._rows._rows_axis import check_rows_axis
from sklearn_torch_bridge._rows._texts import TEXTS
from sklearn_torch_bridge._types import UnevenBatchError

__all__ = ["DATASET", "Items"]

_FREED = "out of bounds for storage of size"  # in the words of torch


class _Dataset(Kind):
    """A Dataset with a length, or a list of examples: inputs with their targets."""

    name = "a Dataset"

    def recognises(self, given: Given) -> bool:
        if isinstance(given.X, Dataset):
            return True
        first = given.first if given.preprocess is None and given.entries else None
        return isinstance(first, tuple) and bool(first) and _is_input(first[0])

    def check(self, given: Given) -> CheckedRows:
        items = Items(given.X, whole=given.has_own_preprocess())
        if not isinstance(items.first, str):
            return CheckedRows(self, items, len(items))
        texts = [items[row] for row in range(len(items))]  # to be sorted
        of_texts = replace(given, X=texts)
        return (FILES if given.takes_files() else TEXTS).check(of_texts)

    def feed(self, values: Any, receiver: Receiver) -> Feed:
        first, media = values.first, receiver.loaded.media
        if is_array(first):
            takes_media = raw_media([first], receiver)
        else:
            plain = is_number(first) or _is_columns(first, media)
            takes_media = media is not None and not plain
        if takes_media:
            return preprocessed_feed(values, media, receiver)
        if hasattr(first, "ndim"):
            check_rows_axis(receiver.loaded.module, first.ndim + 1)
        dtype = receiver.accepts.dtype
        accepts = receiver.accepts
        feed = RowFeed(
            values, _stack_items, dtype, accepts=accepts, what="stacking `X`"
        )
        feed.only_stacks = True
        return feed


DATASET = _Dataset()


def _is_input(value: Any) -> bool:
    """Return whether the first entry of an example is the input of a model."""
    return (is_array(value) and value.ndim > 0) or (
        is_foreign(value) and not isinstance(value, Mapping)
    )


def _is_columns(item: Any, media: Any) -> bool:
    """Return whether an item is keyword arguments of a model, and no sound."""
    if not isinstance(item, Mapping):
        return False
    takes_mapping = getattr(media, "takes_mapping", None)
    return takes_mapping is None or not takes_mapping(item)


class Items:
    """The rows of a Dataset, read when they are needed.

    Of an item that is a tuple or a list the first entry is the row, as PyTorch's
    Datasets return inputs with their targets; with a `preprocess` of the caller's own
    an item stays `whole`.
    """

    def __init__(self, dataset: Any, *, whole: bool) -> None:
        self._dataset = dataset
        self._whole = whole
        self._n_rows = len(dataset)  # for one call, whatever is added meanwhile

    def __len__(self) -> int:
        return self._n_rows

    def __iter__(self) -> Iterator[Any]:
        """Yield items, for their keys: of one that cannot be read, its place."""
        for row in range(len(self)):
            try:
                yield self[row]
            except Exception:  # noqa: BLE001 - it is raised when a batch needs it
                yield ("unreadable", row)

    @cached_property
    def first(self) -> Any:
        """The first item that can be read, to be looked at."""
        failure: Exception | None = None
        for row in range(len(self)):
            try:
                return self[row]
            except Exception as error:  # noqa: BLE001 - raised if all do
                failure = failure or error
        if _FREED in str(failure):
            msg = (
                "`X` must have its values in memory, and is a "
                f"{type(self._dataset).__name__} that reads a tensor whose memory was "
                "freed or resized. Load them first."
            )
            raise ConversionError(msg) from failure
        raise failure or IndexError

    def __getitem__(self, row: Any) -> Any:
        """Return one row, or several as items again."""
        if isinstance(row, slice):
            places = range(len(self))[row]
            return Items([self._dataset[place] for place in places], whole=self._whole)
        item = self._dataset[int(row)]
        if self._whole:
            return item
        has_more = isinstance(item, (tuple, list)) and len(item)
        return as_file(item[0] if has_more else item)


def _stack_items(items: Sequence[Any]) -> Any:
    """Put the items of a Dataset into one tensor, or one for each key of theirs."""
    error = UnevenBatchError.grouped([_shape_of(item) for item in items])
    if len(error.parts) > 1:
        raise error
    first = items[0]
    if isinstance(first, Mapping):
        return {key: _stacked([item[key] for item in items]) for key in first}
    return _stacked(items)


def _shape_of(item: Any) -> Hashable:
    """Return what items must have in common to share a batch: shapes, and dtypes.

    Beside floats, integers would become floats, and be rounded.
    """
    if isinstance(item, Mapping):
        return tuple((key, _shape_of(value)) for key, value in item.items())
    entry = item if is_array(item) else np.asarray(item)
    return tuple(entry.shape), entry.dtype


def _stacked(items: Sequence[Any]) -> torch.Tensor:
    for item in items:
        if fault := deep_fault(item):
            msg = f"an item {fault}."
            raise ValueError(msg)
    tensors = [
        item if isinstance(item, torch.Tensor) else torch.as_tensor(np.asarray(item))
        for item in items
    ]
    stacked = torch.stack([tensor.detach() for tensor in tensors])
    if not is_finite(stacked):
        msg = "an item must be finite, got NaN or infinity."
        raise ValueError(msg)
    return stacked
