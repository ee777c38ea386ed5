"""What PyTorch and its users look for in `torch.simdev`."""

import contextlib

import torch
from torch.accelerator import current_stream as _current_stream
from torch.accelerator import (
    empty_cache,
    get_memory_info,
    max_memory_allocated,
    max_memory_reserved,
    memory_allocated,
    memory_reserved,
    memory_stats,
    reset_peak_memory_stats,
    synchronize,
)

__all__ = [
    "Event",
    "Stream",
    "current_device",
    "current_stream",
    "default_stream",
    "device",
    "device_count",
    "empty_cache",
    "get_amp_supported_dtype",
    "get_memory_info",
    "get_rng_state",
    "is_available",
    "is_initialized",
    "manual_seed",
    "manual_seed_all",
    "max_memory_allocated",
    "max_memory_reserved",
    "memory_allocated",
    "memory_reserved",
    "memory_stats",
    "reset_peak_memory_stats",
    "set_device",
    "set_rng_state",
    "stream",
    "synchronize",
]

Stream, Event = torch.Stream, torch.Event
_DEVICE_TYPE = 20  # c10::DeviceType::PrivateUse1


def _index(device):
    """Return the number of a device; the current one for None and "simdev"."""
    if device is None or isinstance(device, int):
        index = device
    else:
        index = torch.device(device).index
    return current_device() if index is None else index


def is_available():
    return device_count() > 0


def is_initialized():
    return True


def _lazy_init():
    pass


def _is_in_bad_fork():
    return False


def device_count():
    return torch.ops.simdev.device_count()


def current_device():
    return torch.ops.simdev.current_device()


def set_device(device):
    torch.ops.simdev.set_device(_index(device))


class device(contextlib.ContextDecorator):  # noqa: N801 - the name torch looks for
    """Make a device the current one for a while."""

    def __init__(self, device):
        self.index = _index(device)

    def __enter__(self):
        self.before = current_device()
        set_device(self.index)

    def __exit__(self, *exc_info):
        set_device(self.before)


def current_stream(device=None):
    return _current_stream(_index(device))


def default_stream(device=None):
    return torch.Stream(
        stream_id=0, device_index=_index(device), device_type=_DEVICE_TYPE
    )


def stream(stream):
    """Make a stream the current one for a while; None changes nothing."""
    return contextlib.nullcontext() if stream is None else stream


def get_amp_supported_dtype():
    return [torch.float16, torch.bfloat16]


def manual_seed(seed):
    torch.ops.simdev.manual_seed(current_device(), int(seed))


def manual_seed_all(seed):
    for index in range(device_count()):
        torch.ops.simdev.manual_seed(index, int(seed))


def get_rng_state(device=None):
    return torch.ops.simdev.get_rng_state(_index(device))


def set_rng_state(new_state, device=None):
    torch.ops.simdev.set_rng_state(_index(device), new_state)
