"""Batches through a replica: their order and size, their failures, devices, threads.

Hides how rows are sorted and cut into batches, and what becomes of one that fails.
"""

from sklearn_torch_bridge._run._autocast import PRECISIONS
from sklearn_torch_bridge._run._batch_loop import RunOptions, extract
from sklearn_torch_bridge._run._doubt import ADVICE, enough_alike
from sklearn_torch_bridge._run._failed_batches import BadRow
from sklearn_torch_bridge._run._inputs_on_device import on_device
from sklearn_torch_bridge._run._prepared_batches import first_inputs
from sklearn_torch_bridge._run._progress import Advance, progress, reporter, silent
from sklearn_torch_bridge._run._sorted_batches import evenly

__all__ = [
    "ADVICE",
    "PRECISIONS",
    "Advance",
    "BadRow",
    "RunOptions",
    "enough_alike",
    "evenly",
    "extract",
    "first_inputs",
    "on_device",
    "progress",
    "reporter",
    "silent",
]
