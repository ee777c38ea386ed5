"""Safe loading of weights: no pickle in a file may run code."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["loading", "weights_only"]

_WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
_LOCK = threading.RLock()


@contextmanager
def loading(
    model: str, *, must: str, errors: tuple[type[Exception], ...] = (Exception,)
) -> Iterator[None]:
    """Load with `weights_only`; turn a failure into what the parameter must be."""
    try:
        with weights_only():
            yield
    except errors as error:
        msg = f"`model`={model!r} must {must}: {error}"
        raise ValueError(msg) from error


@contextmanager
def weights_only() -> Iterator[None]:
    """Make every `torch.load` refuse pickles that run code, whatever a library asks.

    The loaders of torchvision's weights and of `torch.export` have no option for it.
    """
    with _LOCK:
        before = os.environ.get(_WEIGHTS_ONLY)
        os.environ[_WEIGHTS_ONLY] = "1"
        try:
            yield
        finally:
            del os.environ[_WEIGHTS_ONLY]
            if before is not None:
                os.environ[_WEIGHTS_ONLY] = before
