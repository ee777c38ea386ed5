"""Objects whose state decides no result: locks, logs, streams that are written to.

They count by their class alone, whatever they hold.
"""

import io
import logging
import sys
import threading
from concurrent.futures import Executor
from typing import Any

import torch

__all__ = ["is_log", "is_without_effect"]

# Of devices: they order work, and hold no values.
_OF_DEVICES = tuple(
    kind
    for library in (torch, torch.cuda)
    for kind in (getattr(library, name, None) for name in ("Event", "Stream"))
    if kind is not None
)
_KINDS = (
    *(type(threading.Lock()), type(threading.RLock())),
    *(logging.Filterer, logging.LoggerAdapter, logging.Formatter),
    *(Executor, *_OF_DEVICES),
)
_LOCKS_OF_PROCESSES = "multiprocessing.synchronize"  # not imported on all systems


def is_without_effect(value: Any) -> bool:
    """Return whether the state of an object decides nothing of what is computed.

    >>> is_without_effect(threading.Lock()), is_without_effect(sys.stderr)
    (True, True)
    >>> is_without_effect(io.StringIO())
    False
    """
    if isinstance(value, _KINDS) or type(value).__module__ == _LOCKS_OF_PROCESSES:
        return True
    return _is_stream(value) or is_log(value)


def _is_stream(value: Any) -> bool:
    streams = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    return any(value is one for one in streams)


def is_log(value: Any) -> bool:
    """Return whether an object is a file that nobody can read from."""
    if not isinstance(value, io.IOBase) or _is_stream(value):
        return False
    return value.closed or (value.writable() and not value.readable())
