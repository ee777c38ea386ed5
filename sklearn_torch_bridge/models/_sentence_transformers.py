"""Models of sentence-transformers: ``"st:NAME_OR_PATH"``, and objects as they are.

Modules, pooling, prompts and normalisation are those of the model: the result is that
of `SentenceTransformer.encode`.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
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
    find_folder,
    loading_from_hub,
    tree_of_files,
    with_bases,
)
from sklearn_torch_bridge.models._loaded_model import LoadedModel
from sklearn_torch_bridge.models._missing_weights import loading_report

__all__ = [
    "is_sentence_transformer",
    "load_st",
    "st_files",
    "wrap_sentence_transformer",
]

_TEXTS_AT_ONCE = 1_000
_POOLINGS = {"cls": "cls", "max": "max", "mean": "mean", "lasttoken": "last"}


def load_st(name: str) -> LoadedModel:
    """Load a model, but never code from the hub."""
    library = import_optional("sentence_transformers", purpose=f"`model`='st:{name}'")
    _check_modules(name)
    model = f"st:{name}"
    told = {"library": "sentence-transformers", "by_hand": "SentenceTransformer"}
    with loading_from_hub(model, **told), loading_report(model) as report:
        module = library.SentenceTransformer(
            name, device="cpu", trust_remote_code=False
        )
    missing = report.finish(module)
    return replace(wrap_sentence_transformer(module), missing=missing)


def _check_modules(name: str) -> None:
    """Check that the modules in a folder are classes of sentence-transformers.

    Versions of the library up to 5 run others from a folder without asking.
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
    """List the files of a model, including those of its modules in inner folders."""
    check_installed("sentence_transformers", purpose=f"`model`='st:{name}'")
    folder = find_folder(name, "modules.json", "config.json", prefix="st")
    return [*chain(*with_bases(folder, tree_of_files, prefix="st").values())]


def is_sentence_transformer(module: Any) -> bool:
    """Check for a `SentenceTransformer` without importing its library."""
    library = sys.modules.get("sentence_transformers")
    return library is not None and isinstance(module, library.SentenceTransformer)


def wrap_sentence_transformer(module: Any) -> LoadedModel:
    """Return the model with its own tokenizer, and truncated where it truncates."""
    longest = module.truncate_dim
    return LoadedModel(
        module,
        preprocess=partial(_tokenize, module),
        output="sentence_embedding",
        pooling="auto" if longest is None else partial(_truncate, longest),
        layer_pooling=_layer_pooling(module),
        lengths=partial(_lengths, module),
    )


def _layer_pooling(module: nn.Module) -> str:
    """Return the name of the pooling of a model, for its layers."""
    modes = (getattr(part, "pooling_mode", None) for part in module.children())
    named = next((mode for mode in modes if isinstance(mode, str)), "auto")
    return _POOLINGS.get(named, "auto")


def _truncate(
    longest: int, hidden: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    del mask  # of tokens; here is one vector per sentence
    return hidden[..., :longest]


def _tokenize(module: Any, rows: Sequence[Any]) -> Inputs:
    """Prepare texts, or what else the model takes, as it does, with its prompt."""
    prompt = module.prompts.get(module.default_prompt_name)
    with lock_of(module):
        if hasattr(module, "preprocess"):
            features = dict(module.preprocess(list(rows), prompt=prompt))
        else:  # sentence-transformers 5
            features = dict(module.tokenize([f"{prompt or ''}{row}" for row in rows]))
    return Inputs(args=(features,), mask=features.get("attention_mask"))


def _lengths(module: Any, texts: Sequence[str]) -> NDArray[np.int64]:
    """Count tokens up to the maximum of the model, to sort by; or else letters.

    Some modules have a tokenizer that is called in another way, one of several, or
    none: whatever they have, an order that is not the best costs only time.
    """
    try:
        return _count_tokens(module, texts)
    except Exception:  # noqa: BLE001 - a text that no tokenizer takes is named by the run
        return np.array([len(text) for text in texts], np.int64)


def _count_tokens(module: Any, texts: Sequence[str]) -> NDArray[np.int64]:
    counts: list[int] = []
    with lock_of(module):
        longest = module.max_seq_length or sys.maxsize
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            part = list(texts[start : start + _TEXTS_AT_ONCE])
            counts += map(len, module.tokenizer(part, verbose=False)["input_ids"])
    if len(counts) != len(texts):
        msg = "a tokenizer must return the ids of each text by itself."
        raise ValueError(msg)
    return np.minimum(counts, longest).astype(np.int64)
