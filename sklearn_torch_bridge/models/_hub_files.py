"""The files of models of the Hugging Face hub: where they are, how they are read."""

import json
import logging as python_logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sklearn_torch_bridge._packages import import_optional
from sklearn_torch_bridge.models._file_state import is_result
from sklearn_torch_bridge.models._safe_loading import loading

__all__ = [
    "files_in",
    "find_folder",
    "is_saved_model",
    "loading_from_hub",
    "may_be_read",
    "read_json",
    "tree_of_files",
    "with_bases",
]

_ASKS_FOR_TRUST = "trust_remote_code"
_REPORTING = ("transformers.modeling_utils", "transformers.utils.loading_report")
_ADAPTER = "adapter_config.json"
_OF_A_MODEL = ("config.json", _ADAPTER, "modules.json")
# Weights of other libraries, notes, pictures, results: no loader reads any of them.
_NOT_READ = frozenset(
    {
        *(".gguf", ".h5", ".jpg", ".md", ".msgpack", ".onnx", ".ot", ".png", ".tflite"),
        *(".csv", ".db", ".ipynb", ".joblib", ".lock", ".log", ".npy", ".npz"),
        *(".parquet", ".part", ".pdf", ".progress", ".sqlite", ".tmp", ".tsv"),
    }
)
_READ = frozenset({".bin", ".json", ".model", ".pt", ".pth", ".safetensors", ".txt"})


def files_in(folder: Path) -> list[Path]:
    """List the files directly in a folder that may change what a model computes."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_file())
    if any(name.startswith("model.safetensors") for name in names):
        names = [name for name in names if not name.startswith("pytorch_model")]
    return [folder / name for name in names if may_be_read(folder, name)]


def may_be_read(folder: Path, name: str) -> bool:
    """Return whether a loader may read a file: no cache or result of ours."""
    if name[0] == ".":
        return False
    suffix = os.path.splitext(name)[1]  # noqa: PTH122 - a third of the time
    if suffix in _READ:
        return True
    return suffix not in _NOT_READ and not is_result(folder / name)


def tree_of_files(folder: Path) -> list[Path]:
    """List such files in a folder and in all folders inside it."""
    files = files_in(folder)
    with os.scandir(folder) as entries:
        inner = sorted(entry.name for entry in entries if entry.is_dir())
    for name in inner:
        if name[0] != "." and name not in ("onnx", "openvino"):
            files += tree_of_files(folder / name)
    return files


def is_saved_model(folder: Path) -> bool:
    """Return whether a folder has what `save_pretrained` and `save` write into one."""
    return any((folder / name).is_file() for name in _OF_A_MODEL)


def with_bases(
    folder: Path, list_files: Callable[[Path], list[Path]], *, prefix: str
) -> dict[Path, list[Path]]:
    """Return the files of a folder, then of the folders that adapters in it are for."""
    files: dict[Path, list[Path]] = {}
    to_do = [folder]
    for one in to_do:  # it grows
        if one in files:
            continue
        files[one] = list_files(one)
        for config in (file for file in files[one] if file.name == _ADAPTER):
            base = read_json(config).get("base_model_name_or_path")
            if base:
                to_do += [find_folder(base, "config.json", _ADAPTER, prefix=prefix)]
    return files


def read_json(path: Path) -> dict[str, Any]:
    """Read the mapping in a JSON file; an empty one if there is none."""
    try:
        found = json.loads(path.read_text("utf-8")) if path.is_file() else None
    except ValueError as error:
        msg = f"{str(path)!r}, a file of a model, must be JSON: {error}"
        raise ValueError(msg) from error
    return found if isinstance(found, dict) else {}


def find_folder(name: str, *files: str, prefix: str) -> Path:
    """Return the folder that `name` is, or that of one of `files` in the hub's cache.

    Raises `FileNotFoundError` if the model is not on this machine yet.
    """
    if Path(name).is_dir():
        return Path(name)
    purpose = f"`model`='{prefix}:{name}'"
    hub = import_optional("transformers.utils.hub", purpose=purpose)
    failed: Exception | None = None
    for file in files:
        try:
            return Path(hub.cached_file(name, file, local_files_only=True)).parent
        except (OSError, ValueError) as error:
            failed = failed or error
    msg = f"{purpose} is neither a folder nor in the cache of the hub."
    raise FileNotFoundError(msg) from failed


def _why_no_code(model: str, by_hand: str) -> str:
    name = model.partition(":")[2]
    return (
        f"`model`={model!r} must need no code of its own, since a string never runs "
        f"any, and it does. If you trust that code, load it yourself, by {by_hand}("
        f"{name!r}, {_ASKS_FOR_TRUST}=True), and give the object as `model`, and what "
        "prepares its rows, such as its tokenizer, as `preprocess`"
    )


def _is_no_report(record: python_logging.LogRecord) -> bool:
    """Check for anything but the table of weights that transformers 5 logs."""
    return "LOAD REPORT" not in record.getMessage()


@contextmanager
def loading_from_hub(model: str, *, library: str, by_hand: str) -> Iterator[None]:
    """Load without progress bars and pickled code; explain where nothing is found.

    What is missing in the files is ours to say, and no matter of a log. `by_hand` is
    what loads a model with code of its own.
    """
    transformers = import_optional("transformers", purpose="a model of the hub")
    logging = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    must = (
        "be a folder with a saved model, or the name of one on the Hugging Face hub "
        f"that is cached or can be reached. {library} says"
    )
    loggers = [python_logging.getLogger(name) for name in _REPORTING]
    for logger in loggers:
        logger.addFilter(_is_no_report)
    try:
        with loading(model, must=must):
            try:
                yield
            except ValueError as error:
                if _ASKS_FOR_TRUST not in str(error):
                    raise
                raise ValueError(_why_no_code(model, by_hand)) from error
    finally:
        for logger in loggers:
            logger.removeFilter(_is_no_report)
        if shown:
            logging.enable_progress_bar()
