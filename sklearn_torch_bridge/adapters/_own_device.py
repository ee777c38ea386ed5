"""One accelerator for each worker process of a machine, where it has several."""

import os
import sys
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import torch

from sklearn_torch_bridge._devices import current_accelerator

__all__ = ["claim", "with_own_device"]

_HIDES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")
_HELD: dict[Path, int] = {}  # open files, which the system unlocks when we end


def with_own_device(extractor: Any) -> None:
    """Let an extractor on device "auto" run on one that no other worker has."""
    if extractor.device != "auto" or (accelerator := current_accelerator()) is None:
        return
    n_devices = torch.accelerator.device_count()
    if n_devices > 1:
        number = claim(_physical(n_devices), Path(gettempdir()))
        extractor.set_params(device=f"{accelerator.type}:{number}")


def claim(names: list[str], folder: Path) -> int:
    """Return the number of the first name that no other process here holds.

    This process holds it until it ends, also by a kill. Where all are held it is any;
    where files cannot be locked, the first.
    """
    if sys.platform == "win32":
        return 0
    import fcntl

    for number, name in enumerate(names):
        path = folder / f"sklearn-torch-bridge-{os.getuid()}-device-{name}.lock"
        if path in _HELD:
            return number
        file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            continue
        _HELD[path] = file
        return number
    return os.getpid() % len(names)


def _physical(n_devices: int) -> list[str]:
    """Return the names of devices on the machine, which processes may number anew."""
    for variable in _HIDES:
        names = [name for name in os.environ.get(variable, "").split(",") if name]
        if len(names) == n_devices:
            return [name.strip().replace("/", "-") for name in names]
    return [str(number) for number in range(n_devices)]
