"""Doubt that rows are bad: what fails alike on rows from all over is wrong for all.

An `output` that no row has, a pooling that always fails, or a model that takes other
shapes, would else be found out by trying each row.
"""

import re
import threading
from collections.abc import Sequence

from sklearn_torch_bridge._errors import LayerNotRunError, OutputError
from sklearn_torch_bridge._row_numbers import as_indices
from sklearn_torch_bridge._run._sorted_batches import Batches
from sklearn_torch_bridge._types import Rows

__all__ = ["ADVICE", "Doubt", "enough_alike"]

ADVICE = (
    "Rows from all over `X` were tried by themselves, and none passed. If it is due to "
    "these rows, `fit` on some that can be used first: then each row is tried."
)
_ENOUGH = 8  # rows that are tried
_FEW = 4  # where an error seldom depends on the row
_SELDOM_OF_A_ROW = (LayerNotRunError, OutputError)


class Doubt:
    """Whether rows fail for what is wrong with all of them, as long as none has passed.

    After two that failed alike, rows from all over what is left are drawn next, each by
    itself. One that passes, or fails otherwise, ends the doubt. With `proven` a row has
    passed in an earlier run: then only want of memory is doubted.
    """

    def __init__(self, batches: Batches, *, proven: bool = False) -> None:
        self.is_over = False
        self._batches = batches
        self._proven = proven
        self._likeness: object = None  # of the row that failed last
        self._probes: set[int] = set()  # rows that were drawn for the doubt
        self._lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether rows are being tried, and what they become decides."""
        return bool(self._probes) and not self.is_over

    def is_confirmed(self, rows: Rows, error: Exception, *, short: bool) -> bool:
        """Count a row that failed by itself; True once all that were tried did so."""
        with self._lock:
            if self.is_over or (self._proven and not short):
                return False
            before, self._likeness = self._likeness, _likeness(error)
            is_alike = before == self._likeness
            if self._probes:
                self.is_over = not is_alike
                self._probes.discard(int(as_indices(rows)[0]))
                return is_alike and not self._probes
            enough = _FEW if short else _enough(error)
            if is_alike or enough == _FEW:
                n_probes = enough - 1 - is_alike
                self._probes.update(self._batches.apart(n_probes))
                self.is_over = not self._probes  # few are left, and each is tried
            return False


def enough_alike(errors: Sequence[Exception]) -> bool:
    """Return whether rows from all over have failed alike, so that others need not.

    >>> error = ValueError("3 is too large")
    >>> error.add_note("While reading the model's output of row 3.")
    >>> enough_alike([error] * 7), enough_alike([error] * 8)
    (False, True)
    """
    kinds = {_likeness(error) for error in errors}
    return len(kinds) == 1 and len(errors) >= _enough(errors[0])


def _enough(error: Exception) -> int:
    return _FEW if isinstance(error, _SELDOM_OF_A_ROW) else _ENOUGH


def _likeness(error: Exception) -> object:
    """Return what is equal for errors that say the same, but for numbers.

    What has neither a cause nor a note was found by looking at the row, and is like
    nothing else.
    """
    if error.__cause__ is None and not hasattr(error, "__notes__"):
        return object()
    reason = error.__cause__ or error
    return type(reason), re.sub(r"\d+", "0", str(reason))
