"""Order rows, cut them into batches."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sklearn_torch_bridge._types import Indices

__all__ = ["as_slice", "describe_rows", "iter_batches", "longest_first"]

_SHOWN = 5


def longest_first(lengths: NDArray[np.int64] | None, rows: Indices) -> Indices:
    """Order `rows` by falling length, equal ones as they came.

    Rows of like length share a batch and need little padding; the longest come first
    so that too large a batch shows at once.

    >>> longest_first(np.array([2, 9, 2, 4]), np.arange(4))
    array([1, 3, 0, 2])
    """
    if lengths is None:
        return rows
    return rows[np.argsort(-lengths[rows], kind="stable")]


def iter_batches(rows: Indices, batch_size: int) -> Iterator[Indices]:
    """Cut `rows` into runs of at most `batch_size`.

    >>> [batch.tolist() for batch in iter_batches(np.arange(5), 2)]
    [[0, 1], [2, 3], [4]]
    """
    for start in range(0, len(rows), batch_size):
        yield rows[start : start + batch_size]


def as_slice(rows: Indices) -> slice | None:
    """Turn a run of neighbours into a slice; None where there are gaps.

    >>> as_slice(np.array([3, 4, 5])), as_slice(np.array([3, 5, 4]))
    (slice(3, 6, None), None)
    """
    if len(rows) == 0:
        return slice(0, 0)
    first, last = int(rows[0]), int(rows[-1])
    if last - first == len(rows) - 1 and bool((rows[1:] > rows[:-1]).all()):
        return slice(first, last + 1)
    return None


def describe_rows(rows: Indices) -> str:
    """Name rows in an error message, shortly.

    >>> describe_rows(np.arange(32, 64)), describe_rows(np.array([7]))
    ('rows 32 to 63', 'row 7')
    >>> describe_rows(np.array([40, 3, 17, 5, 8, 11, 2]))
    'rows 2, 3, 5, 8, 11, ... (7 rows)'
    """
    ordered = np.sort(rows)
    if len(ordered) == 1:
        return f"row {ordered[0]}"
    if ordered[-1] - ordered[0] == len(ordered) - 1:
        return f"rows {ordered[0]} to {ordered[-1]}"
    shown = ", ".join(str(row) for row in ordered[:_SHOWN])
    if len(ordered) <= _SHOWN:
        return f"rows {shown}"
    return f"rows {shown}, ... ({len(ordered)} rows)"
