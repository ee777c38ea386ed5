"""Rows that could not be used, as NaN in the result, with one warning for all."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_torch_bridge._errors import BadRowWarning
from sklearn_torch_bridge._results import ArraySink
from sklearn_torch_bridge._row_numbers import as_indices, describe_rows
from sklearn_torch_bridge._rows import CheckedRows
from sklearn_torch_bridge._run import BadRow

__all__ = ["all_bad", "filled"]

_CALLER = 5  # frames between the warning and the call of `transform`


def filled(
    sink: ArraySink, rows: CheckedRows, bad: Sequence[BadRow], like: NDArray[Any] | None
) -> NDArray[Any]:
    """Return the result with bad rows made NaN, and warn which they are.

    Where all of them are bad, a row `like` these shows what they would have been.
    """
    any_bad = bad or len(rows.bad)
    if sink.array is None and any_bad and like is not None:
        sink.allocate([like.shape[1:]], like.dtype)
    if sink.array is None:
        raise all_bad(bad, rows)
    if not any_bad:
        return sink.array
    numbers = np.unique(
        np.concatenate([rows.bad, *(as_indices(one.places) for one in bad)])
    )
    if sink.value_dtype.kind not in "fc":
        msg = (
            "`dtype` must hold NaN for `on_error`='nan', and the model gives "
            f"{sink.value_dtype}. Ask for dtype='float64'."
        )
        raise ValueError(msg)
    sink.fill(numbers, np.nan)
    reason = bad[0].error if bad else rows.why_bad.rstrip(".")
    named = describe_rows(numbers)
    msg = f"{named} of `X` could not be used and became NaN ({reason})."
    warnings.warn(msg, BadRowWarning, stacklevel=_CALLER)
    return sink.array


def all_bad(bad: Sequence[BadRow], rows: CheckedRows) -> Exception:
    """Return the error for rows of which none can be used, and none was seen before."""
    if bad:
        return bad[0].error
    msg = (
        f"`X` must hold a row that can be used, but none of its {rows.n_samples} can. "
        "What such rows become is learnt in `fit`, from one that can."
    )
    return ValueError(msg)
