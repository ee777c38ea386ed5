"""Safe loading of weights: no pickle in a file may run code."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["explained", "loading", "weights_only"]

_IMPORTING = "<frozen importlib._bootstrap>"
_OF_SAVED = ("config.json", "modules.json", "adapter_config.json")

_WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
_LOCK = threading.RLock()


@contextmanager
def loading(
    model: str, *, must: str, errors: tuple[type[Exception], ...] = (Exception,)
) -> Iterator[None]:
    """Load with `weights_only`; explain failures, by `must` where no model is there."""
    try:
        with weights_only():
            yield
    except MemoryError:
        raise
    except errors as error:
        raise explained(model, must, error) from error


def explained(model: str, must: str, error: Exception) -> Exception:
    """Return an error that says why a model could not be loaded."""
    said = f"{error}".strip() or type(error).__name__
    if _came_of_importing(error):
        what = f"a package that it needs fails to import: {type(error).__name__}"
        return ImportError(
            f"`model`={model!r} could not be loaded, since {what}: {said}"
        )
    if said.startswith(f"`model`={model!r} must "):
        return ValueError(said)
    if _is_saved(Path(model.partition(":")[2])):
        what = f"is there, but could not be loaded: {type(error).__name__}"
        return ValueError(f"`model`={model!r} {what}: {said}")
    return ValueError(f"`model`={model!r} must {must}: {said}")


def _is_saved(place: Path) -> bool:
    """Check for a folder that has a model, whole or in part."""
    return any((place / name).is_file() for name in _OF_SAVED)


def _came_of_importing(error: BaseException | None) -> bool:
    """Check whether an error, or what it came of, was raised as a module was imported.

    A broken shared library is an OSError, as is a model that is not there.
    """
    while error is not None:
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == _IMPORTING:
                return True
            trace = trace.tb_next
        if isinstance(error, ImportError):
            return True
        error = error.__cause__ or error.__context__
    return False


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
