"""Batches through a replica: their order and size, their failures, devices, threads.

Hides how rows are sorted and cut into batches, and what becomes of one that fails.
"""

from sklearn_torch_bridge._run._autocast import PRECISIONS
from sklearn_torch_bridge._run._extract import BadRow, How, extract, on_device
from sklearn_torch_bridge._run._progress import Advance, progress, silent, teller

__all__ = [
    "PRECISIONS",
    "Advance",
    "BadRow",
    "How",
    "extract",
    "on_device",
    "progress",
    "silent",
    "teller",
]
