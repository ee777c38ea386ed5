"""The state of the global random generators, restored after the last run of several."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["kept_random_state"]

_LOCK = threading.Lock()
_N_RUNS: Counter[torch.device] = Counter()
_BEFORE: dict[torch.device, torch.Tensor] = {}


@contextmanager
def kept_random_state(device: torch.device) -> Iterator[None]:
    """Keep the generators of the CPU and of `device`, also when threads overlap."""
    entered: list[torch.device] = []
    try:
        with _LOCK:
            for one in {torch.device("cpu"), device}:
                if not _N_RUNS[one]:
                    generators, args = _generators(one)
                    _BEFORE[one] = generators.get_rng_state(*args)
                _N_RUNS[one] += 1
                entered.append(one)
        yield
    finally:
        try:
            _leave(entered)
        except BaseException:  # Ctrl-C came meanwhile
            _leave(entered)
            raise


def _leave(entered: list[torch.device]) -> None:
    with _LOCK:
        while entered:
            one = entered[-1]
            generators, args = _generators(one)
            before = _BEFORE[one]
            if _N_RUNS[one] == 1 and not before.equal(generators.get_rng_state(*args)):
                generators.set_rng_state(before, *args)
            _N_RUNS[one] -= 1
            entered.pop()


def _generators(device: torch.device) -> tuple[Any, tuple[torch.device, ...]]:
    """Return the module of a device's generators, and the argument that names it."""
    if device.type == "cpu":
        return torch, ()
    return torch.get_device_module(device), (device,)
