"""``"hf:NAME_OR_PATH"``: a model of the transformers library with its tokenizer."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sklearn_torch_bridge._optional import import_optional
from sklearn_torch_bridge.models._loaded import LoadedModel

__all__ = ["hf_files", "load_hf"]

# Other libraries' weights, notes and pictures: `from_pretrained` reads none of them.
_NOT_READ = frozenset(
    {".gguf", ".h5", ".jpg", ".md", ".msgpack", ".onnx", ".ot", ".png", ".tflite"}
)


def load_hf(name: str) -> LoadedModel:
    """Load a model without its head, and its tokenizer; never code from the hub."""
    transformers = import_optional("transformers", purpose=f"`model`='hf:{name}'")
    try:
        with _without_progress_bars(transformers):
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                name, trust_remote_code=False
            )
            module = transformers.AutoModel.from_pretrained(
                name, trust_remote_code=False
            )
    except OSError as error:
        msg = (
            f"`model`='hf:{name}' must be a folder with a saved model, or the name of "
            "one on the Hugging Face hub that is cached or can be reached. "
            f"transformers says: {error}"
        )
        raise ValueError(msg) from error
    return LoadedModel(module, tokenizer)


def hf_files(name: str) -> list[Path]:
    """List the files that `load_hf` would read, without a network.

    Raises `FileNotFoundError` where the model is not here yet.
    """
    folder = Path(name) if Path(name).is_dir() else _cached_folder(name)
    files = [
        path
        for path in sorted(folder.iterdir())
        if path.is_file() and path.suffix not in _NOT_READ and path.name[0] != "."
    ]
    if any(path.name.startswith("model.safetensors") for path in files):
        files = [path for path in files if not path.name.startswith("pytorch_model")]
    adapter = folder / "adapter_config.json"
    if adapter in files:
        base = json.loads(adapter.read_text("utf-8")).get("base_model_name_or_path")
        files += hf_files(base) if base and base != name else []
    return files


def _cached_folder(name: str) -> Path:
    """Find the files of a model that was loaded from the hub before."""
    hub = import_optional("transformers.utils.hub", purpose=f"`model`='hf:{name}'")
    try:
        return Path(hub.cached_file(name, "config.json", local_files_only=True)).parent
    except (OSError, ValueError) as error:
        msg = f"`model`='hf:{name}' is neither a folder nor in the cache of the hub."
        raise FileNotFoundError(msg) from error


@contextmanager
def _without_progress_bars(transformers: Any) -> Iterator[None]:
    """Keep loading silent: progress is shown only with `verbose`."""
    logging = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
