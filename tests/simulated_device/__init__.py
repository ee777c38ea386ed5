"""A GPU-like torch device without a GPU; the README beside this file tells more.

Nothing is loaded by the import: `load` changes the process for good.
"""

import functools
from types import MappingProxyType

import torch

from simulated_device.library import build, missing

__all__ = [
    "counters",
    "fail_allocations",
    "hazards",
    "lazy",
    "load",
    "missing",
    "reset",
    "set_cap",
]


@functools.cache
def load():
    """Make "simdev" a device of this process, its accelerator; give the device."""
    torch.ops.load_library(build())
    torch.utils.rename_privateuse1_backend("simdev")
    # Only now: the module takes torch.ops.simdev for granted.
    from simulated_device import device_module

    torch._register_device_module("simdev", device_module)
    torch.utils.generate_methods_for_privateuse1_backend(
        for_tensor=True, for_module=True, for_packed_sequence=True, for_storage=True
    )
    return torch.device("simdev", 0)


def counters():
    """Count what happened since `reset`, by name: "h2d", "synchronizations", ..."""
    return MappingProxyType(torch.ops.simdev.counters())


def hazards():
    """Describe the races seen since `reset`; an empty list is what a test wants."""
    return torch.ops.simdev.hazards()


def reset():
    """Finish what is under way; forget counts, hazards, caps and planned failures."""
    torch.ops.simdev.reset()


def lazy(on=True):
    """Finish asynchronous copies as late as a device may (the default), or at once.

    A result that is right only when they finish at once lacks a synchronisation.
    """
    torch.ops.simdev.set_lazy(on)


def set_cap(n_bytes, device=0):
    """Raise `torch.OutOfMemoryError` above so many bytes in use; None lifts the cap."""
    torch.ops.simdev.set_cap(device, -1 if n_bytes is None else n_bytes)


def fail_allocations(*, nth=None, above_bytes=None):
    """Plan failures: of the n-th allocation from now (0 is the next), of large ones."""
    torch.ops.simdev.fail_allocations(
        -1 if nth is None else nth, -1 if above_bytes is None else above_bytes
    )
