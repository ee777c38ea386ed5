"""How much memory is free, and whether a result fits into it."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["available_bytes", "check_fits"]

_SMALL_RESULT_BYTES = 64 << 20  # allocated without a check
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
    """Raise MemoryError for a result that is larger than the free memory.

    Linux would promise the memory all the same, and end the process when it is used.
    """
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes <= _SMALL_RESULT_BYTES:
        return
    free = available_bytes()
    if free is not None and n_bytes > free:
        needed, there = _format_bytes(n_bytes), _format_bytes(free)
        msg = (
            f"The result of shape {shape} and dtype {dtype} takes {needed}, and "
            f"{there} of memory are free. Write it to a file with `transform_to_file`, "
            "transform fewer rows at a time, or ask for a smaller `dtype`."
        )
        raise MemoryError(msg)


def available_bytes() -> int | None:
    """Return the memory that this process may still take, None where it is unknown."""
    known = [_available_on_machine(), _available_in_container()]
    return min((n_bytes for n_bytes in known if n_bytes is not None), default=None)


def _available_on_machine() -> int | None:
    """Read how much memory Linux can provide without swapping."""
    found = re.search(r"^MemAvailable:\s*(\d+)", _read(_MEMINFO), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _available_in_container() -> int | None:
    """Read how much of a container's limit is left (cgroup 2, then 1)."""
    for limit, used, stat, cache in _LIMITS:
        most, now = _read(_CGROUP / limit).strip(), _read(_CGROUP / used).strip()
        if most.isdecimal() and now.isdecimal():
            stats = dict(map(str.split, _read(_CGROUP / stat).splitlines()))
            # Files read lately count as used, and are freed when memory is needed.
            return max(0, int(most) - int(now) + int(stats.get(cache, 0)))
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # another system, or no such limit
        return ""


def _format_bytes(n_bytes: int) -> str:
    """Format a size for people.

    >>> _format_bytes(3_400_000_000), _format_bytes(80_000_000)
    ('3.4 GB', '80.0 MB')
    """
    gigabyte, megabyte = 1e9, 1e6
    if n_bytes >= gigabyte:
        return f"{n_bytes / gigabyte:.1f} GB"
    return f"{n_bytes / megabyte:.1f} MB"
