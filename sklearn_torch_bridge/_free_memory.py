"""How much memory is free, and whether a result fits into it."""

import math
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["available_bytes", "check_fits"]

_NOT_WORTH_ASKING = 64 << 20  # a result this small is allocated without a look
_CGROUP = Path("/sys/fs/cgroup")
_LIMITS = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        *("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
        *("memory/memory.stat", "total_inactive_file"),
    ),
)
_MEMINFO = Path("/proc/meminfo")


def check_fits(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Refuse a result that is larger than the memory that is free.

    Without this, Linux would promise the memory, and end the process when it is used.
    """
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes <= _NOT_WORTH_ASKING:
        return
    free = available_bytes()
    if free is not None and n_bytes > free:
        msg = (
            f"The result of shape {shape} and dtype {dtype} takes {_show(n_bytes)}, "
            f"and {_show(free)} of memory are free. Write it to a file with "
            "`transform_to_file`, transform fewer rows at a time, or ask for a smaller "
            "`dtype`."
        )
        raise MemoryError(msg)


def available_bytes() -> int | None:
    """Give the memory that this process may still take; None where nothing tells."""
    known = [_of_machine(), _of_group()]
    told = [n_bytes for n_bytes in known if n_bytes is not None]
    return min(told) if told else None


def _of_machine() -> int | None:
    """Read what Linux would give without swapping."""
    for line in _read(_MEMINFO).splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return None


def _of_group() -> int | None:
    """Read what is left of the limit of a container (cgroup 2, then 1)."""
    for limit, used, stat, cache in _LIMITS:
        most, now = _read(_CGROUP / limit).strip(), _read(_CGROUP / used).strip()
        if most.isdecimal() and now.isdecimal():
            stats = dict(map(str.split, _read(_CGROUP / stat).splitlines()))
            # Files read lately count as used, and are given up when asked for.
            return max(0, int(most) - int(now) + int(stats.get(cache, 0)))
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # another system, or no such limit
        return ""


def _show(n_bytes: int) -> str:
    """Write a size for people.

    >>> _show(3_400_000_000), _show(80_000_000)
    ('3.4 GB', '80.0 MB')
    """
    gigabyte, megabyte = 1e9, 1e6
    if n_bytes >= gigabyte:
        return f"{n_bytes / gigabyte:.1f} GB"
    return f"{n_bytes / megabyte:.1f} MB"
