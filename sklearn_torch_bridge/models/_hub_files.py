"""Where models of the Hugging Face hub lie, which files count, how they are read."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sklearn_torch_bridge._packages import import_optional

__all__ = [
    "cached_folder",
    "files_in",
    "silent_loading",
    "tree_of_files",
    "weights_only",
]

_WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
_LOCK = threading.RLock()

# Other libraries' weights, notes and pictures: no loader reads any of them.
_NOT_READ = frozenset(
    {".gguf", ".h5", ".jpg", ".md", ".msgpack", ".onnx", ".ot", ".png", ".tflite"}
)


def files_in(folder: Path) -> list[Path]:
    """List the files right in a folder that may decide what a model computes."""
    files = [
        path
        for path in sorted(folder.iterdir())
        if path.is_file() and path.suffix not in _NOT_READ and path.name[0] != "."
    ]
    if any(path.name.startswith("model.safetensors") for path in files):
        files = [path for path in files if not path.name.startswith("pytorch_model")]
    return files


def tree_of_files(folder: Path) -> list[Path]:
    """List such files in a folder and in the folders below it."""
    below = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    files = files_in(folder)
    for inner in below:
        if inner.name[0] != "." and inner.name not in ("onnx", "openvino"):
            files += tree_of_files(inner)
    return files


def cached_folder(name: str, file: str, *, prefix: str) -> Path:
    """Find the files of a model that was loaded from the hub before.

    Raises `FileNotFoundError` where it is not here yet.
    """
    purpose = f"`model`='{prefix}:{name}'"
    hub = import_optional("transformers.utils.hub", purpose=purpose)
    try:
        return Path(hub.cached_file(name, file, local_files_only=True)).parent
    except (OSError, ValueError) as error:
        msg = f"{purpose} is neither a folder nor in the cache of the hub."
        raise FileNotFoundError(msg) from error


@contextmanager
def silent_loading() -> Iterator[None]:
    """Keep loading silent: progress is shown only with `verbose`."""
    transformers = import_optional("transformers", purpose="a model of the hub")
    logging = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@contextmanager
def weights_only() -> Iterator[None]:
    """Let no pickle in a file run code, whatever a library asks `torch.load` for.

    Those of torchvision's weights and of `torch.export.load` have no option for it.
    """
    with _LOCK:
        before = os.environ.get(_WEIGHTS_ONLY)
        os.environ[_WEIGHTS_ONLY] = "1"
        try:
            yield
        finally:
            if before is None:
                del os.environ[_WEIGHTS_ONLY]
            else:
                os.environ[_WEIGHTS_ONLY] = before
