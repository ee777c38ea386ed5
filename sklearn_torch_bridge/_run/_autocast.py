"""Run the forward in half precision, where the caller asks for it."""

from contextlib import AbstractContextManager, nullcontext

import torch

__all__ = ["PRECISIONS", "autocast_for"]

PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def autocast_for(
    device: torch.device, precision: str | None
) -> AbstractContextManager[object]:
    """Return the context in which matrix products run in `precision`.

    With None they run as the model does them: the caller's own autocast, of which no
    cache and no file would know, ends here. Inside `inference_mode` autocast keeps no
    cast weights (torch 2.13), but casting them again costs little beside a batch.
    """
    available = torch.amp.is_autocast_available(device.type)
    if precision is None:
        if available and torch.is_autocast_enabled(device.type):
            return torch.autocast(device.type, enabled=False)
        return nullcontext()
    if not available:
        msg = f"`precision` must be None on {device.type!r}, which has no autocast."
        raise ValueError(msg)
    return torch.autocast(device.type, dtype=PRECISIONS[precision])
