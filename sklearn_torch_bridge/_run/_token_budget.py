"""How many rows, tokens or values a batch may have."""

from typing import Literal

import torch

from sklearn_torch_bridge._rows import Feed

__all__ = ["USUAL_ROWS", "batch_limits"]

# Padded tokens (or steps) of a batch with batch_size="auto". On a CPU more of them
# leave the cache, and on an accelerator fewer leave it idle.
_TOKENS = {"cpu": 1_024}
_TOKENS_ELSEWHERE = 32_768
_MOST_ROWS = 1_024
_VALUES = 1 << 22  # of a batch of arrays
USUAL_ROWS = 32
"""The rows of a batch, where nothing says how large they are."""


def batch_limits(
    batch_size: int | Literal["auto"], feed: Feed, device: torch.device
) -> tuple[int, int | None]:
    """Return the most rows of a batch, and the most padded elements."""
    if batch_size != "auto":
        return batch_size, None
    if feed.row_size is not None:
        return max(1, min(_MOST_ROWS, _VALUES // max(1, feed.row_size))), None
    if feed.lengths is not None:
        return _MOST_ROWS, _TOKENS.get(device.type, _TOKENS_ELSEWHERE)
    return USUAL_ROWS, None
