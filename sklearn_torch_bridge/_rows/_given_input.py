"""`X` as it was given, with its entries; what can be no rows is refused here."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data
from torch.utils.data import DataLoader, Dataset, IterableDataset

from sklearn_torch_bridge._convert import FAULT_HINTS, is_masked, iter_faults
from sklearn_torch_bridge._errors import ConversionError
from sklearn_torch_bridge._rows._entry_faults import (
    as_row,
    is_array,
    is_missing,
    shape_of,
)
from sklearn_torch_bridge._tokenizers import is_tokenizer
from sklearn_torch_bridge.models import (
    is_media_processor,
    may_bring_preprocess,
    opens_files,
)

__all__ = ["Given", "as_entries", "is_number", "needs_preprocess", "single_column"]

_TWO_AXES = 2


@dataclass(frozen=True)
class Given:
    """`X` and the estimator that got it; with `reset`, it learns names and widths."""

    X: Any
    estimator: Any
    reset: bool = False

    @property
    def preprocess(self) -> Any:
        """The `preprocess` of the caller."""
        return self.estimator.preprocess

    @property
    def forgiving(self) -> bool:
        """Whether rows that cannot be used become NaN."""
        forgiving: bool = self.estimator.on_error == "nan"
        return forgiving

    @property
    def is_of_lengths(self) -> bool:
        """Whether `max_length` says that rows have a length, if they are no table."""
        asked = getattr(self.estimator, "max_length", None) is not None
        return asked and single_column(self.X) is not None

    @cached_property
    def brings(self) -> bool:
        """Whether the model may bring a `preprocess`, for rows that no array holds."""
        return may_bring_preprocess(self.estimator.model)

    @cached_property
    def entries(self) -> Any:
        """The entries of what has one a row; None of what has several columns."""
        entries = single_column(self.X)
        if entries is None or isinstance(self.X, (list, tuple)):
            return entries
        if hasattr(self.X, "columns") and all(map(is_number, entries)):  # or all NaN
            return None
        if self.preprocess is not None:
            return entries
        # Only here may a row be a list: a list of lists is an array itself.
        return [as_row(entry) for entry in entries]

    @cached_property
    def hidden(self) -> dict[int, str]:
        """The rows with a list, a mapping or others whose values are not there.

        Rows that are arrays are looked at by their kind, and whatever the caller's own
        `preprocess` gets before it gets it.
        """
        is_read_later = isinstance(self.X, (Dataset, Mapping)) or is_array(self.X)
        if is_read_later and not _has_objects(self.X):
            return {}
        entries = single_column(self.X)
        if self.has_own_preprocess() and entries is not None:
            return {}
        return {
            row: fault
            for row, fault in iter_faults(self.X)
            if entries is None
            or not (is_array(entries[row]) or is_missing(entries[row]))
        }

    @cached_property
    def first(self) -> Any:
        """The first entry that is not missing; None where all are, or none is there."""
        entries = self.entries or ()
        return next((entry for entry in entries if not is_missing(entry)), None)

    @property
    def all_missing(self) -> bool:
        """Whether there are entries, and all are missing."""
        return self.first is None and bool(self.entries)

    @cached_property
    def shapes(self) -> set[tuple[int, ...]]:
        """The shapes of the entries that are arrays, or lists of numbers."""
        return {shape for one in self.entries if (shape := shape_of(one)) is not None}

    def takes_files(self) -> bool:
        """Return whether str among the rows are paths; this may load the model."""
        if self.preprocess is None:
            return opens_files(self.estimator.model)
        return is_media_processor(self.preprocess)

    def has_own_preprocess(self) -> bool:
        """Return whether `preprocess` is the caller's code, and no library's."""
        library = is_tokenizer(self.preprocess) or is_media_processor(self.preprocess)
        return self.preprocess is not None and not library

    def check_frame(self) -> None:
        """Learn or compare the names and the number of the columns of a frame."""
        # Before `fit` scikit-learn would warn of names that it has not seen.
        if hasattr(self.X, "columns") and (
            self.reset or hasattr(self.estimator, "_layer_widths")
        ):
            self.check_width(self.X)

    def check_width(self, X: Any) -> None:
        """Learn or compare the number of columns, and nothing else."""
        validate_data(self.estimator, X, reset=self.reset, skip_check_array=True)

    def check_not_empty(self, n_samples: int) -> None:
        """Refuse to learn from no rows, in scikit-learn's words."""
        if self.reset and not n_samples:
            msg = (
                "Found array with 0 sample(s) while a minimum of 1 is required by "
                f"{type(self.estimator).__name__}."
            )
            raise ValueError(msg)

    def check_usable(self) -> None:
        """Refuse what has no rows in any order, or hides some of its values."""
        X = self.X
        is_dataset = isinstance(X, Dataset)
        if is_dataset and (isinstance(X, IterableDataset) or not hasattr(X, "__len__")):
            msg = (
                "`X` must have a length and rows in any order, got "
                f"{type(X).__name__}, an iterable Dataset. Give list(X), if it fits in "
                "memory, or a Dataset with `__len__` and `__getitem__`."
            )
            raise TypeError(msg)
        if isinstance(X, DataLoader):
            msg = (
                "`X` must have rows in any order, got a DataLoader. Give its "
                "`dataset`; `batch_size` and `num_workers` are parameters of the "
                "estimator."
            )
            raise TypeError(msg)
        if not is_dataset and is_masked(X):
            msg = (
                "`X` must have all its values, but some are masked. The mask would be "
                "lost; call .filled(value) first."
            )
            raise ConversionError(msg)
        for row, fault in self.hidden.items():
            hint = FAULT_HINTS[fault]
            msg = f"`X` must have all its values, but row {row} {fault}. {hint}."
            raise ConversionError(msg)
        countable = hasattr(X, "__len__") or hasattr(X, "__array__")
        if isinstance(X, (str, bytes)) or not countable:
            msg = (
                "`X` must be an array, a frame, a tensor, or a sequence with one entry "
                f"a row, got {type(X).__name__}."
            )
            raise TypeError(msg)


def _has_objects(X: Any) -> bool:
    return isinstance(X, np.ndarray) and X.dtype.hasobject


def needs_preprocess(row: Any) -> TypeError:
    """Return the error for rows of a kind that a model does not take by itself."""
    msg = (
        f"`X` holds {type(row).__name__} objects: give a `preprocess` that makes of a "
        "list of them what the model takes (of graphs a batch, as "
        "Batch.from_data_list does), or a model that brings one."
    )
    return TypeError(msg)


def is_number(value: Any) -> bool:
    """Return whether an entry is a single number."""
    return isinstance(value, (int, float, np.number))


def as_entries(X: Any) -> list[Any]:
    """Return the entries of a list, a Series, an array or a frame of one column."""
    column = single_column(X)
    return list(X if column is None else column)


def single_column(X: Any) -> Any:
    """Return the values of a list, a Series, a 1-D array or a one-column frame."""
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
