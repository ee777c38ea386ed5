"""A list of arrays or tensors of one shape: checked and run as one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from sklearn_torch_bridge._convert import stack
from sklearn_torch_bridge._rows._arrays import ARRAY
from sklearn_torch_bridge._rows._base import CheckedRows, Kind
from sklearn_torch_bridge._rows._entry_faults import (
    as_numbers,
    is_array,
    is_missing,
    number_fault,
)
from sklearn_torch_bridge._rows._given_input import Given
from sklearn_torch_bridge._rows._tensors import TENSOR
from sklearn_torch_bridge._types import Indices

__all__ = ["STACKED", "stacked"]


class _Stacked(Kind):
    """Arrays or tensors of one shape, one a row."""

    name = "arrays of one shape"

    def recognises(self, given: Given) -> bool:
        one_shape = is_array(given.first) and len(given.shapes) == 1
        return one_shape and not given.is_of_lengths

    def check(self, given: Given) -> CheckedRows:
        given.check_frame()
        whole, bad = stacked(given.entries, forgiving=given.forgiving)
        n_samples = len(given.entries)
        good = np.delete(np.arange(n_samples), bad)
        if not len(good):
            return CheckedRows(self, [], 0).among(n_samples, good)
        counts = not hasattr(given.X, "columns")
        if isinstance(whole, torch.Tensor):
            some = TENSOR.check_tensor(given, whole, counts=counts)
        else:
            rows = [given.entries[row] for row in good] if _is_mixed(given) else None
            some = ARRAY.check_array(given, whole, counts=counts, rows=rows)
        return some.among(n_samples, good) if len(bad) else some


STACKED = _Stacked()


def _is_mixed(given: Given) -> bool:
    return len({str(getattr(one, "dtype", "")) for one in given.entries}) > 1


def stacked(entries: Sequence[Any], *, forgiving: bool = False) -> tuple[Any, Indices]:
    """Put arrays or tensors of one shape into one; return it, and which rows are none.

    Those are refused, unless `forgiving`.
    """
    model = next(entry for entry in entries if is_array(entry))
    if isinstance(model, np.ndarray):
        entries = [as_numbers(one) if _is_list(one) else one for one in entries]
    faults = [_fault(entry, model) for entry in entries]
    bad = np.flatnonzero([fault is not None for fault in faults])
    if len(bad) and not forgiving:
        name = "tensors" if isinstance(model, torch.Tensor) else "arrays"
        msg = f"`X` must hold {name} in every row, but row {bad[0]} {faults[bad[0]]}."
        raise TypeError(msg)
    good = [one for one, fault in zip(entries, faults, strict=True) if fault is None]
    if not good:
        return [], bad
    dtypes = {one.dtype for one in good if isinstance(one, torch.Tensor)}
    if len(dtypes) == 1 and isinstance(model, torch.Tensor):
        return torch.stack([tensor.detach() for tensor in good]), bad
    return stack(good, None), bad  # which rounds no integers


def _fault(entry: Any, model: Any) -> str | None:
    """Return why an entry does not stack with `model`; None if it does."""
    if isinstance(model, torch.Tensor) and not isinstance(entry, torch.Tensor):
        return "is missing" if is_missing(entry) else f"is a {type(entry).__name__}"
    if is_array(entry) and entry.shape != model.shape:
        return f"has shape {tuple(entry.shape)}, and another {tuple(model.shape)}"
    return number_fault(entry)


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or hasattr(value, "to_list")
