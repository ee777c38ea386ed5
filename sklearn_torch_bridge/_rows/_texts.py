"""Texts as the token ids of a Hugging Face tokenizer: made once, padded per batch."""

import inspect
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sklearn_torch_bridge._row_numbers import as_indices, describe_rows
from sklearn_torch_bridge._tokenizers import lock_of
from sklearn_torch_bridge._types import Indices, Inputs, Rows

__all__ = ["TokenFeed"]

_AT_ONCE = 1_000  # texts a call, so that lists of Python integers stay short
_NO_MAXIMUM = 1_000_000  # transformers writes "no maximum" as 1e30


class TokenFeed:
    """Distinct texts as token ids, 4 bytes each.

    Batches are padded on the right, whatever the tokenizer says: there it changes
    neither positions nor, in a causal model, what a real token sees. For a model that
    takes no mask only texts of one length share a batch.
    """

    row_size = None

    def __init__(
        self,
        texts: Sequence[str],
        origin: Indices | None,
        tokenizer: Any,
        model: nn.Module,
        *,
        forgiving: bool = False,
    ) -> None:
        self._origin = origin
        self._ids, self.lengths = _encode(texts, tokenizer)
        self._starts = np.cumsum(self.lengths) - self.lengths
        self._padding = _padding(tokenizer)
        self._takes = _taken_by(model, tuple(self._ids))
        self.even = self._takes is None or "attention_mask" not in self._takes
        if not forgiving:
            self._refuse_empty(slice(0, len(texts)))

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, rows: Rows) -> Inputs:
        """Pad the ids of these texts to the longest of them."""
        lengths = self.lengths[rows]
        if not lengths[-1]:  # the shortest: rows come longest first
            self._refuse_empty(rows)
        columns = np.arange(lengths.max())
        keep = columns < lengths[:, None]
        source = (self._starts[rows][:, None] + columns)[keep]
        mask = torch.from_numpy(keep)
        given = {}
        for name, flat in self._ids.items():
            padded = np.full(keep.shape, self._padding.get(name, 0), np.int64)
            padded[keep] = flat[source]
            given[name] = torch.from_numpy(padded)
        if self._takes is None:
            return Inputs(args=(given["input_ids"],), mask=mask)
        given["attention_mask"] = mask.long()
        return Inputs(kwargs={name: given[name] for name in self._takes}, mask=mask)

    def _refuse_empty(self, rows: Rows) -> None:
        empty = as_indices(rows)[self.lengths[rows] == 0]
        if len(empty):
            origin = self._origin
            places = empty if origin is None else np.flatnonzero(np.isin(origin, empty))
            msg = (
                "`X` must hold texts of at least one token, got none in "
                f"{describe_rows(places)}."
            )
            raise ValueError(msg)


def _encode(
    texts: Sequence[str], tokenizer: Any
) -> tuple[dict[str, NDArray[np.int32]], NDArray[np.int64]]:
    """Give for each key the ids of all texts in one run, and their lengths."""
    truncation = tokenizer.model_max_length < _NO_MAXIMUM
    chunks: dict[str, list[NDArray[np.int32]]] = {}
    lengths: list[int] = []
    with lock_of(tokenizer):
        for start in range(0, len(texts), _AT_ONCE):
            part = list(texts[start : start + _AT_ONCE])
            encoded = dict(tokenizer(part, truncation=truncation))
            counts = [len(ids) for ids in encoded["input_ids"]]
            lengths += counts
            for name, rows in encoded.items():
                if [len(row) for row in rows] != counts:
                    msg = (
                        f"`preprocess` must give one number a token, but its {name!r} "
                        "has another length than 'input_ids'. Wrap it in a callable "
                        "that returns what the model takes."
                    )
                    raise ValueError(msg)
                flat = np.fromiter(chain.from_iterable(rows), np.int32, sum(counts))
                chunks.setdefault(name, []).append(flat)
    ids = {name: np.concatenate(parts) for name, parts in chunks.items()}
    return ids, np.array(lengths, np.int64)


def _padding(tokenizer: Any) -> dict[str, int]:
    """Give the value that fills each key; where there is no padding token, any."""
    token = tokenizer.pad_token_id
    if token is None:
        token = getattr(tokenizer, "eos_token_id", None) or 0
    return {
        "input_ids": token,
        "token_type_ids": getattr(tokenizer, "pad_token_type_id", 0),
        "special_tokens_mask": 1,
    }


def _taken_by(model: nn.Module, names: tuple[str, ...]) -> tuple[str, ...] | None:
    """Give the keys that the model's forward has a name for; None: ids by position."""
    parameters = inspect.signature(model.forward).parameters
    if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        return names
    if "input_ids" not in parameters:
        return None
    with_mask = dict.fromkeys((*names, "attention_mask"))
    return tuple(name for name in with_mask if name in parameters)
