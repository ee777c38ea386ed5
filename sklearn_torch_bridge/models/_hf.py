"""``"hf:NAME_OR_PATH"``: a model of the transformers library with its tokenizer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sklearn_torch_bridge._optional import import_optional
from sklearn_torch_bridge.models._loaded import LoadedModel

__all__ = ["load_hf"]


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
