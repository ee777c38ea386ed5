"""What was found out about a module in its forwards, for as long as it lives."""

import threading
import warnings
import weakref
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from torch import nn

from sklearn_torch_bridge._replica._lent_tensors import Span

__all__ = ["Draws", "Findings", "findings_of"]


class Draws(IntEnum):
    """What random numbers a forward draws."""

    NONE = 0
    NUMBERS = 1  # single ones, which belong to no row
    ROWS = 2  # whole tensors


@dataclass(eq=False)
class Findings:
    """What is known of the forwards of one module.

    `written` has the tensors that they write to, by id. `seen` are the kinds of
    forwards that were watched, each with the layers that it ends at; `draws` what
    those draw. `foreign` is what draws from a generator that is not ours to choose.
    """

    signature: list[Any] = field(default_factory=list)
    written: dict[int, Span] = field(default_factory=dict)
    seen: set[Any] = field(default_factory=set)
    draws: dict[Any, Draws] = field(default_factory=dict)
    foreign: dict[Any, str] = field(default_factory=dict)
    suspected: dict[Any, list[Any]] = field(default_factory=dict)
    kept: dict[object, Any] = field(default_factory=dict)  # of the axes of values
    seeds: bool = False  # torch's global generators, itself
    _warned: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def hold_for(self, signature: list[Any]) -> None:
        """Forget what was seen, if the module is not made of the same parts now."""
        if signature is not self.signature and signature != self.signature:
            self.signature = signature
            self.seen.clear()
            self.kept.clear()

    def needs_rows_alone(self, layers: tuple[str, ...]) -> bool:
        """Return whether each row needs a forward, and a seed, of its own."""
        return self.draws.get(layers) is Draws.ROWS

    def warn_once(self, message: str) -> None:
        """Warn of a module, not of each call."""
        with self._lock:
            is_new = message not in self._warned
            self._warned.add(message)
        if is_new:
            warnings.warn(message, UserWarning, stacklevel=2)


# By id: a module may have no hash.
_KNOWN: dict[int, tuple[weakref.ref[nn.Module], Findings]] = {}
_LOCK = threading.RLock()  # a module may end at any time, under the lock as well


def findings_of(module: nn.Module) -> Findings:
    """Return what is known of a module; it is forgotten with it."""
    key = id(module)
    known = _KNOWN.get(key)
    if known is not None and known[0]() is module:
        return known[1]
    with _LOCK:
        known = _KNOWN.get(key)
        if known is None or known[0]() is not module:
            known = weakref.ref(module, lambda ended: _forget(key, ended)), Findings()
            _KNOWN[key] = known
        return known[1]


def _forget(key: int, ended: Any) -> None:
    with _LOCK:
        if key in _KNOWN and _KNOWN[key][0] is ended:
            del _KNOWN[key]
