"""`SentenceTransformer` objects: they take one mapping, made by their own tokenizer."""

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sklearn_torch_bridge._tokens import lock_of
from sklearn_torch_bridge._types import Inputs
from sklearn_torch_bridge.models._loaded import LoadedModel

__all__ = ["is_sentence_transformer", "with_tokenizer"]

_AT_ONCE = 1_000


def is_sentence_transformer(module: nn.Module) -> bool:
    """Tell a `SentenceTransformer`, without importing its library."""
    library = sys.modules.get("sentence_transformers")
    return library is not None and isinstance(module, library.SentenceTransformer)


def with_tokenizer(module: nn.Module) -> LoadedModel:
    """Give the model with its own tokenizing, truncated where it truncates."""
    return LoadedModel(
        module, preprocess=partial(_prepare, module), lengths=partial(_lengths, module)
    )


def _prepare(module: Any, texts: Sequence[str]) -> Inputs:
    # `tokenize` was the name until sentence-transformers 5; 6 warns about it.
    tokenize = module.preprocess if hasattr(module, "preprocess") else module.tokenize
    with lock_of(module):
        features = dict(tokenize(list(texts)))
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
