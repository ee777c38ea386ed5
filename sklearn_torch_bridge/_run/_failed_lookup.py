"""Why a model failed to look something up: an id that it lacks, a text too long for it.

An error of PyTorch says that an index is out of range, of nobody knows which row; the
frames that it passed still hold the ids, and the table that they were for.
"""

import re
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from sklearn_torch_bridge._types import Inputs

__all__ = ["IDS", "Explained", "explain", "tensors_given", "wants_ids"]

_LOOKUPS = {functional.embedding.__code__, functional.embedding_bag.__code__}
IDS = (torch.int64, torch.int32)
"""What embeddings take."""
# An index and a size, in the words of x[ids], `gather`, `index_select`, `take`, and of
# the check in compiled code.
_INDICES = (
    re.compile(r"index (-?\d+) is out of bounds .*size (\d+)"),
    re.compile(r"id=(-?\d+) axis_dim=(\d+)"),
    re.compile(r"access index (-?\d+) on a tensor of (\d+)"),
    re.compile(r"out of range: -?\d+ to (\d+) into a tensor with (\d+)"),
)
# What names neither, of `one_hot` and `index_select`, and what must hold.
_UNNUMBERED = {
    "smaller than num_classes": "must be below the number of classes of `one_hot`",
    "must be non-negative": "must be from 0 on",
    "index out of range in self": "must be below the size of the table",
}
_NEEDS_INDEX = re.compile(
    r"'indices' to have one of|index tensor|used as indices|dtype int\S+( or \S+)? for"
)
_OF_SIZE = re.compile(r"\d+")
_POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len")
_MOST = 0.5  # of the steps from one id to the next
_TWO_AXES = 2


class Explained(NamedTuple):
    """What failed: the row in its batch, if one did, and what is said of it."""

    row: int | None
    words: str


class _Lookup(NamedTuple):
    """Ids, the size of the table that they are for, and where the bags of ids begin."""

    ids: torch.Tensor
    size: int
    offsets: torch.Tensor | None = None


def explain(error: Exception, module: nn.Module, inputs: Inputs) -> Explained | None:
    """Return what a failed forward was asked for in vain; None if for nothing."""
    lookup = _find_lookup(error)
    if lookup is not None:
        bad = (lookup.ids < 0) | (lookup.ids >= lookup.size)
        if not bad.any():
            return None
        name, given = _find_given(lookup.ids, inputs)
        if given is None and _are_positions(lookup.ids):
            first = lookup.ids.reshape(-1, lookup.ids.shape[-1])[:, 0].min()
            return _too_long(inputs, lookup.size - int(first))
        place = int(bad.reshape(-1).int().argmax())
        words = _must_be_below(lookup.size, int(lookup.ids.reshape(-1)[place]), name)
        return Explained(_row_of(place, lookup, given), words)
    n_positions, most = _positions(module)
    numbers = set(map(int, _OF_SIZE.findall(str(error))))
    n_tokens = max(_lengths(inputs), default=0)
    if 0 < most < n_tokens and numbers & {n_tokens, most, n_positions}:
        return _too_long(inputs, most)
    return _indexed(error, inputs)


def wants_ids(error: Exception) -> bool:
    """Return whether what failed takes integers, and was given something else."""
    return _NEEDS_INDEX.search(str(error)) is not None


def _find_lookup(error: Exception) -> _Lookup | None:
    """Return what the innermost embedding on a traceback was given, if one was."""
    trace: TracebackType | None = error.__traceback__
    found = None
    while trace is not None:
        frame, trace = trace.tb_frame, trace.tb_next
        if frame.f_code in _LOOKUPS:
            given = frame.f_locals
            found = given["input"], given["weight"], given.get("offsets")
    if found is None or found[0].dtype not in IDS:
        return None
    ids, weight, offsets = found
    return _Lookup(ids, weight.shape[0], offsets)


def _row_of(place: int, lookup: _Lookup, given: torch.Tensor | None) -> int | None:
    """Return the row of one id, by its place among all that were looked up."""
    if given is None:
        return None
    if lookup.offsets is not None and given.ndim == 1:  # bags, one behind the other
        return int((lookup.offsets <= place).sum()) - 1
    return place // (given.numel() // len(given))


def _must_be_below(size: int, value: int, name: str | None) -> str:
    where = "that the model computes" if name is None else f"in {name}"
    return (
        f"Ids {where} must be from 0 to {size - 1}, got {value}: give ids that the "
        "model has; of texts, by the tokenizer that belongs to it."
    )


def _too_long(inputs: Inputs, most: int) -> Explained:
    lengths = list(_lengths(inputs))
    row = next((row for row, length in enumerate(lengths) if length > most), None)
    n_tokens = "more tokens" if row is None else f"{lengths[row]} tokens"
    return Explained(
        row,
        f"It has {n_tokens}, and the model takes at most {most}: cut it, or set the "
        f"maximum of its tokenizer (`model_max_length`, or `max_seq_length` of a "
        f"SentenceTransformer) to {most}.",
    )


def _indexed(error: Exception, inputs: Inputs) -> Explained | None:
    """Explain an index of a model that has a table without a module for it."""
    said = [found for one in _INDICES if (found := one.search(str(error)))]
    if not said:
        return _unnumbered(str(error), inputs)
    value, size = map(int, said[0].groups())
    for name, given in tensors_given(inputs):
        if given.dtype not in IDS:
            continue
        bad = (given < -size) | (given >= size)
        # Of others the model may have computed this index.
        if bad.any() and bool((given[bad] == value).all()):
            row = int(bad.nonzero()[0][0])
            return Explained(row, _must_be_below(size, value, name))
    return None


def _unnumbered(said: str, inputs: Inputs) -> Explained | None:
    """Explain an error about ids that names none: by the least and largest given."""
    must = next((must for words, must in _UNNUMBERED.items() if words in said), None)
    ids = [pair for pair in tensors_given(inputs) if pair[1].dtype in IDS]
    if must is None or len(ids) != 1:
        return None
    ((name, given),) = ids
    least, most = int(given.min()), int(given.max())
    return Explained(None, f"Ids in {name} {must}, and go from {least} to {most} here.")


def tensors_given(inputs: Inputs) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors among the inputs of a model, by what to call them."""
    parts: list[tuple[str, Any]] = [("`X`", value) for value in inputs.args]
    parts += [(repr(name), value) for name, value in inputs.kwargs.items()]
    for name, value in parts:
        if isinstance(value, torch.Tensor):
            yield name, value
        elif isinstance(value, Mapping):  # of sentence-transformers
            yield from tensors_given(Inputs(kwargs=value))


def _find_given(
    ids: torch.Tensor, inputs: Inputs
) -> tuple[str | None, torch.Tensor | None]:
    """Return the input that ids are of, and what to call it; None of computed ones."""
    for name, given in tensors_given(inputs):
        if given.numel() != ids.numel() or given.dtype not in IDS:
            continue
        is_same = given.untyped_storage().data_ptr() == ids.untyped_storage().data_ptr()
        is_equal = torch.equal(given.reshape(-1).long(), ids.reshape(-1).long())
        # Ids that count upwards are as positions are.
        if is_same or (is_equal and not _are_positions(ids)):
            return name, given
    return None, None


def _are_positions(ids: torch.Tensor) -> bool:
    """Return whether some row counts upwards, but for padding, as positions do."""
    steps = ids.reshape(-1, ids.shape[-1]).diff() if ids.ndim else ids
    return steps.numel() > 0 and bool(((steps == 1).float().mean(-1) > _MOST).any())


def _lengths(inputs: Inputs) -> list[int]:
    """Count the tokens of each row, where a row is tokens."""
    if inputs.mask is not None:
        lengths: list[int] = inputs.mask.bool().sum(1).tolist()
        return lengths
    for _, given in tensors_given(inputs):
        if given.ndim == _TWO_AXES and given.dtype in IDS:
            return [given.shape[1]] * len(given)
    return []


def _positions(module: nn.Module) -> tuple[int, int]:
    """Return the positions in the configuration of a model, and how many of tokens."""
    for part in module.modules():
        config = getattr(part, "config", None)
        for one in (getattr(config, "text_config", None), config):
            found = (getattr(one, name, None) for name in _POSITIONS)
            most = next((size for size in found if isinstance(size, int)), None)
            if most is not None:
                return most, most - _first_position(part)
    return 0, 0


def _first_position(model: nn.Module) -> int:
    """Return the position of the first token: RoBERTa counts from beyond padding."""
    for name, part in model.named_modules():
        if isinstance(part, nn.Embedding) and "pos" in name.rpartition(".")[2]:
            return 0 if part.padding_idx is None else part.padding_idx + 1
    return 0
