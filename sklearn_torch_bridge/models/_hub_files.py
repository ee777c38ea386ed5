"""The files of models of the Hugging Face hub: where they are, how they are read."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sklearn_torch_bridge._packages import import_optional
from sklearn_torch_bridge.models._safe_loading import loading

__all__ = ["files_in", "find_folder", "loading_from_hub", "tree_of_files"]

# Weights of other libraries, notes and pictures: no loader reads any of them.
_NOT_READ = frozenset(
    {".gguf", ".h5", ".jpg", ".md", ".msgpack", ".onnx", ".ot", ".png", ".tflite"}
)


def files_in(folder: Path) -> list[Path]:
    """List the files directly in a folder that may change what a model computes."""
    files = [
        path
        for path in sorted(folder.iterdir())
        if path.is_file() and path.suffix not in _NOT_READ and path.name[0] != "."
    ]
    if any(path.name.startswith("model.safetensors") for path in files):
        files = [path for path in files if not path.name.startswith("pytorch_model")]
    return files


def tree_of_files(folder: Path) -> list[Path]:
    """List such files in a folder and in all folders inside it."""
    files = files_in(folder)
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        if inner.name[0] != "." and inner.name not in ("onnx", "openvino"):
            files += tree_of_files(inner)
    return files


def find_folder(name: str, file: str, *, prefix: str) -> Path:
    """Return the folder that `name` is, or the one of `file` in the cache of the hub.

    Raises `FileNotFoundError` if the model is not on this machine yet.
    """
    if Path(name).is_dir():
        return Path(name)
    purpose = f"`model`='{prefix}:{name}'"
    hub = import_optional("transformers.utils.hub", purpose=purpose)
    try:
        return Path(hub.cached_file(name, file, local_files_only=True)).parent
    except (OSError, ValueError) as error:
        msg = f"{purpose} is neither a folder nor in the cache of the hub."
        raise FileNotFoundError(msg) from error


@contextmanager
def loading_from_hub(model: str, *, library: str) -> Iterator[None]:
    """Load without progress bars and pickled code; explain where nothing is found."""
    transformers = import_optional("transformers", purpose="a model of the hub")
    logging = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    must = (
        "be a folder with a saved model, or the name of one on the Hugging Face hub "
        f"that is cached or can be reached. {library} says"
    )
    try:
        with loading(model, must=must, errors=(OSError,)):
            yield
    finally:
        if shown:
            logging.enable_progress_bar()
