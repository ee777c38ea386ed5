"""Rows of a batch as numbers: spelled out, counted, described in errors."""

from typing import Any

import numpy as np

from sklearn_torch_bridge._types import Indices, Rows

__all__ = ["NamedRows", "as_indices", "count_rows", "describe_rows", "single_rows"]

_SHOWN = 5


class NamedRows(np.ndarray[Any, np.dtype[np.intp]]):
    """Rows that errors call by a name: a part of one, say.

    >>> describe_rows(NamedRows.of(np.array([7]), "window 2 of row 7"))
    'window 2 of row 7'
    """

    name = ""

    @classmethod
    def of(cls, rows: Rows, name: str) -> "NamedRows":
        """Give rows a name."""
        named = as_indices(rows).copy().view(cls)
        named.name = name
        return named


def as_indices(rows: Rows) -> Indices:
    """Spell out a slice.

    >>> as_indices(slice(2, 5)), as_indices(np.array([7]))
    (array([2, 3, 4]), array([7]))
    """
    return np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows


def count_rows(rows: Rows) -> int:
    """Count the rows of a batch.

    >>> count_rows(slice(2, 5)), count_rows(np.array([7]))
    (3, 1)
    """
    return rows.stop - rows.start if isinstance(rows, slice) else len(rows)


def single_rows(rows: Rows) -> list[Rows]:
    """Return each row as a batch of its own.

    >>> single_rows(slice(2, 4)), single_rows(np.array([7]))
    ([slice(2, 3, None), slice(3, 4, None)], [array([7])])
    """
    if isinstance(rows, slice):
        return [slice(row, row + 1) for row in range(rows.start, rows.stop)]
    return [rows[place : place + 1] for place in range(len(rows))]


def describe_rows(rows: Rows) -> str:
    """Describe rows for an error message, shortly.

    >>> describe_rows(slice(32, 64)), describe_rows(np.array([7]))
    ('rows 32 to 63', 'row 7')
    >>> describe_rows(np.array([40, 3, 17, 5, 8, 11, 2]))
    'rows 2, 3, 5, 8, 11, ... (7 rows)'
    """
    if isinstance(rows, NamedRows) and rows.name:
        return rows.name
    ordered = np.sort(as_indices(rows))
    if len(ordered) == 1:
        return f"row {ordered[0]}"
    if ordered[-1] - ordered[0] == len(ordered) - 1:
        return f"rows {ordered[0]} to {ordered[-1]}"
    rest = f", ... ({len(ordered)} rows)" if len(ordered) > _SHOWN else ""
    return f"rows {', '.join(map(str, ordered[:_SHOWN]))}{rest}"
