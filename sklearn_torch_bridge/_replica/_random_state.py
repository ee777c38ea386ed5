"""The state of the global random generators, restored after the last run of several.

Only for models whose draws cannot be sent to a generator of ours: what other threads
draw meanwhile is lost.
"""

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["kept_random_state", "read_generator", "seeding_noticed", "set_generator"]

_SEEDINGS = ("manual_seed", "seed", "set_state")

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
                    _BEFORE[one] = read_generator(one)
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
            before = _BEFORE[one]
            if _N_RUNS[one] == 1 and not before.equal(read_generator(one)):
                set_generator(one, before)
            _N_RUNS[one] -= 1
            entered.pop()


@contextmanager
def seeding_noticed(noticed: list[str]) -> Iterator[None]:
    """Add a name to `noticed` for each seeding of a global generator in this thread."""

    def look(_: Any, event: str, called: Any) -> None:
        owner = getattr(called, "__self__", None)
        is_seeding = getattr(called, "__name__", "") in _SEEDINGS
        if event == "c_call" and is_seeding and _is_global(owner):
            noticed.append(called.__name__)

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        yield
    finally:
        sys.setprofile(before)


def _is_global(owner: Any) -> bool:
    """Return whether a generator is one of torch's own, of a device."""
    if not isinstance(owner, torch.Generator):
        return False
    if owner.device.type == "cpu":
        return owner is torch.default_generator
    module = torch.get_device_module(owner.device)
    return owner in getattr(module, "default_generators", (owner,))


def read_generator(device: torch.device) -> torch.Tensor:
    """Return the state of the global generator of a device, in few long words."""
    if device.type == "cpu":
        return torch.default_generator.get_state().view(torch.int64)
    state: torch.Tensor = torch.get_device_module(device).get_rng_state(device)
    return state.view(torch.int64)


def set_generator(device: torch.device, state: torch.Tensor) -> None:
    """Give the global generator of a device another state."""
    if device.type == "cpu":
        torch.set_rng_state(state.view(torch.uint8))
    else:
        generators: Any = torch.get_device_module(device)
        generators.set_rng_state(state.view(torch.uint8), device)
