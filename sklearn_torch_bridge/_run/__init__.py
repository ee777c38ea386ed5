"""Batches through a replica: their order and size, their failures, devices, threads.

Hides how rows are sorted and cut into batches, and what becomes of one that fails.
"""

from sklearn_torch_bridge._run._autocast import PRECISIONS
from sklearn_torch_bridge._run._batch_loop import RunOptions, extract
from sklearn_torch_bridge._run._failed_batches import BadRow
from sklearn_torch_bridge._run._inputs_on_device import on_device
from sklearn_torch_bridge._run._progress import Advance, progress, reporter, silent

__all__ = [
    "PRECISIONS",
    "Advance",
    "BadRow",
    "RunOptions",
    "extract",
    "on_device",
    "progress",
    "reporter",
    "silent",
]
