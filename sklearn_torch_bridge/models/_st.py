"""Models of sentence-transformers: ``"st:NAME_OR_PATH"``, and objects as they are.

Modules, pooling, prompts and normalisation are the model's own, so that the result is
that of `SentenceTransformer.encode`.
"""

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sklearn_torch_bridge._packages import check_installed, import_optional
from sklearn_torch_bridge._tokenizers import lock_of
from sklearn_torch_bridge._types import Inputs
from sklearn_torch_bridge.models._hub_files import (
    cached_folder,
    silent_loading,
    tree_of_files,
    weights_only,
)
from sklearn_torch_bridge.models._loaded_model import LoadedModel

__all__ = ["is_sentence_transformer", "load_st", "st_files", "with_tokenizer"]

_AT_ONCE = 1_000
_POOLINGS = {"cls": "cls", "max": "max", "mean": "mean", "lasttoken": "last"}


def load_st(name: str) -> LoadedModel:
    """Load a model; never code from the hub."""
    library = import_optional("sentence_transformers", purpose=f"`model`='st:{name}'")
    _check_modules(name)
    try:
        with silent_loading(), weights_only():
            module = library.SentenceTransformer(
                name, device="cpu", trust_remote_code=False
            )
    except OSError as error:
        msg = (
            f"`model`='st:{name}' must be a folder with a saved model, or the name of "
            "one on the Hugging Face hub that is cached or can be reached. "
            f"sentence-transformers says: {error}"
        )
        raise ValueError(msg) from error
    return with_tokenizer(module)


def _check_modules(name: str) -> None:
    """Refuse a folder whose modules are classes of others.

    Up to version 5 of the library these are run out of a folder without asking.
    """
    listed = Path(name) / "modules.json"
    if not listed.is_file():
        return
    for entry in json.loads(listed.read_text("utf-8")):
        kind = str(entry.get("type") if isinstance(entry, dict) else entry)
        if not kind.startswith("sentence_transformers."):
            msg = (
                f"`model`='st:{name}' must be made of modules of that library, got "
                f"{kind!r}, whose code would have to be run. If you trust it, load it "
                "by SentenceTransformer(..., trust_remote_code=True) and give that."
            )
            raise ValueError(msg)


def st_files(name: str) -> list[Path]:
    """List the files of a model, those of its modules in folders below included."""
    check_installed("sentence_transformers", purpose=f"`model`='st:{name}'")
    folder = Path(name)
    if not folder.is_dir():
        folder = cached_folder(name, "modules.json", prefix="st")
    return tree_of_files(folder)


def is_sentence_transformer(module: nn.Module) -> bool:
    """Tell a `SentenceTransformer`, without importing its library."""
    library = sys.modules.get("sentence_transformers")
    return library is not None and isinstance(module, library.SentenceTransformer)


def with_tokenizer(module: Any) -> LoadedModel:
    """Give the model with its own tokenizing, truncated where it truncates."""
    longest = module.truncate_dim
    return LoadedModel(
        module,
        preprocess=partial(_prepare, module),
        output="sentence_embedding",
        pooling="auto" if longest is None else partial(_truncate, longest),
        layer_pooling=_own_pooling(module),
        lengths=partial(_lengths, module),
    )


def _own_pooling(module: nn.Module) -> str:
    """Name the pooling of a model, for its layers."""
    for part in module.children():
        mode = getattr(part, "pooling_mode", None)
        if isinstance(mode, str):
            return _POOLINGS.get(mode, "auto")
    return "auto"


def _truncate(
    longest: int, hidden: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    del mask  # of tokens, which a sentence has no more
    return hidden[..., :longest]


def _prepare(module: Any, rows: Sequence[Any]) -> Inputs:
    """Let the model prepare texts (or what else it takes), behind its own prompt."""
    prompt = module.prompts.get(module.default_prompt_name)
    with lock_of(module):
        if hasattr(module, "preprocess"):
            features = dict(module.preprocess(list(rows), prompt=prompt))
        else:  # sentence-transformers 5
            features = dict(module.tokenize([f"{prompt or ''}{row}" for row in rows]))
    return Inputs(args=(features,), mask=features.get("attention_mask"))


def _lengths(module: Any, texts: Sequence[str]) -> NDArray[np.int64]:
    """Count tokens up to the model's maximum, to sort by."""
    longest = module.max_seq_length or sys.maxsize
    counts: list[int] = []
    with lock_of(module):
        for start in range(0, len(texts), _AT_ONCE):
            part = list(texts[start : start + _AT_ONCE])
            counts += map(len, module.tokenizer(part, verbose=False)["input_ids"])
    return np.minimum(np.array(counts, np.int64), longest)
