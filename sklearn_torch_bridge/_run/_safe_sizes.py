"""Which sizes of batches have fitted in memory, for each model and device.

What does not fit is halved at once, and grows back later: the shortage may have been
another program's, and may be over.
"""

import threading
from weakref import WeakKeyDictionary

from torch import nn

__all__ = ["SafeSize", "safe_size"]

_PATIENCE = 64  # full batches that must fit before a larger one is tried
_PATIENCE_AFTER_A_SUCCESS = 8
_MOST_PATIENCE = 4_096  # then one forward in so many fails, if more never fits


class SafeSize:
    """The padded elements of a batch that fit; None while all batches have fitted.

    After some full batches twice the size is tried, once: if that fails, twice as many
    must fit before the next try.

    >>> size = SafeSize()
    >>> size.shrink(failed=16, half=8)
    >>> for _ in range(64):
    ...     size.passed(8, longest=1)
    >>> size.most
    16
    >>> size.shrink(failed=16, half=8)
    >>> size.most
    8
    """

    def __init__(self) -> None:
        self.most: int | None = None
        self._known = 0  # `most`, or half of it while that is tried
        self._patience = self._left = _PATIENCE
        self._lock = threading.Lock()

    def shrink(self, *, failed: int, half: int) -> None:
        """Go back to what has fitted, or to half of a batch that has failed."""
        with self._lock:
            if self._known and self._known < failed:
                if self.most != self._known:  # else it was drawn before a try failed
                    self._patience = min(_MOST_PATIENCE, 2 * self._patience)
            else:
                self._known, self._patience = half, _PATIENCE
            self._left = self._patience
            self.most = self._known

    def passed(self, elements: int, *, longest: int) -> None:
        """Count a batch that has fitted, if one with another row would be too large."""
        with self._lock:
            if self.most is None or elements + longest <= self.most:
                return
            if self.most != self._known:
                self._known, self._left = self.most, _PATIENCE_AFTER_A_SUCCESS
                return
            self._left -= 1
            if self._left <= 0:
                self.most = 2 * self._known


_SIZES: WeakKeyDictionary[nn.Module, dict[object, SafeSize]] = WeakKeyDictionary()
_LOCK = threading.Lock()


def safe_size(module: nn.Module, task: object) -> SafeSize:
    """Return the size for a model and a task, which all calls and threads share.

    `task` is the device and what else decides how much memory a row takes.
    """
    with _LOCK:
        sizes = _SIZES.setdefault(module, {})
        size = sizes.get(task)
        if size is None:
            size = sizes[task] = SafeSize()
        return size
