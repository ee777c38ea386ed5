"""Sound of a lower rate than the model's: one warning for all rows of a call."""

import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sklearn_torch_bridge._row_numbers import as_indices, describe_rows
from sklearn_torch_bridge._run import BadRow
from sklearn_torch_bridge._types import Rows

__all__ = ["warn_of_low_rates"]

_CALLER = 7  # frames between the warning and the call of `transform`


def warn_of_low_rates(
    low_rates: Mapping[int, tuple[int, int]],
    rows_of: Callable[[Rows], Rows],
    bad: Sequence[BadRow],
) -> None:
    """Warn of rows of a feed whose rate is below the model's, but for bad ones."""
    if not low_rates:
        return
    rows = as_indices(rows_of(np.array(sorted(low_rates), np.intp)))
    for one in bad:
        rows = np.setdiff1d(rows, as_indices(one.places))
    if not len(rows):
        return
    rates = sorted({rate for rate, _ in low_rates.values()})
    of_model = max(rate for _, rate in low_rates.values())
    several = f"{rates[0]} to {rates[-1]}" if len(rates) > 1 else f"{rates[0]}"
    msg = (
        f"the sound of {describe_rows(rows)} of `X` has a sampling rate of {several} "
        f"Hz, below the {of_model} Hz of the model: it was resampled, but has nothing "
        f"above {rates[0] // 2} Hz, which nothing can win back. Give sound of "
        f"{of_model} Hz or more where there is some, or a model of lower rate."
    )
    warnings.warn(msg, UserWarning, stacklevel=_CALLER)
