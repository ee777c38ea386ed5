"""Make rows for the model of what was checked."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sklearn_torch_bridge._devices import check_device, float_dtype
from sklearn_torch_bridge._pinned_memory import is_staged, pinned
from sklearn_torch_bridge._rows._checked_rows import CheckedRows
from sklearn_torch_bridge._rows._columns import Items, as_columns
from sklearn_torch_bridge._rows._inputs import (
    Kind,
    needs_preprocess,
)
from sklearn_torch_bridge._rows._row_feeds import (
    ArrayFeed,
    ColumnsFeed,
    RaggedFeed,
    RowFeed,
    SparseFeed,
    SubsetFeed,
    TensorFeed,
    needs_mask,
    stack_items,
)
from sklearn_torch_bridge._rows._texts import TokenFeed
from sklearn_torch_bridge._tokenizers import is_tokenizer
from sklearn_torch_bridge._types import Feed, Indices
from sklearn_torch_bridge.models import (
    LoadedModel,
    media_of,
    only_reads,
    text_part,
)

__all__ = ["made_up", "make_feed"]

_TWO_AXES, _THREE_AXES = 2, 3
_DENSE = ("array", "tensor")
_FIRST_ARGUMENTS = ("input", "src", "query")  # of the layers below
_OF_SEQUENCES = (nn.GRU, nn.LSTM, nn.RNN, nn.MultiheadAttention)


def make_feed(
    checked: CheckedRows,
    estimator: Any,
    loaded: LoadedModel,
    which: Indices | None = None,
) -> Feed:
    """Make rows of the model of what was checked: all of `values`, or only `which`."""
    given, kind = estimator.preprocess, checked.kind
    dtype = float_dtype(loaded.module)
    origin = checked.origin_of(which)
    values = checked.values
    if which is not None and isinstance(values, list):
        values, which = [values[row] for row in which], None
    if kind == "texts":
        forgiving = estimator.on_error == "nan"
        return _text_feed(values, origin, text_part(given), loaded, forgiving=forgiving)
    feed: Feed
    of_rows = _row_preprocess(values, kind, given, loaded)
    if of_rows is not None:
        if of_rows is stack_items and hasattr(first := _first(values), "ndim"):
            _check_first_axis(loaded.module, first.ndim + 1)
        lengths_of = getattr(of_rows, "lengths", None)
        feed = RowFeed(
            values,
            of_rows,
            dtype,
            origin=origin if which is None else checked.origin,
            lengths=lengths_of(values) if lengths_of else None,
            even=getattr(of_rows, "even", False),
        )
    elif kind == "ragged" or (kind in _DENSE and needs_mask(loaded.module)):
        _check_first_axis(loaded.module, values[0].ndim + 1)
        feed = RaggedFeed(values, dtype, loaded.module, origin=origin)
    elif kind == "array":
        _check_first_axis(loaded.module, values.ndim)
        feed = _array_feed(values, dtype, estimator, loaded)
    elif kind == "columns":
        for name in set(_FIRST_ARGUMENTS) & set(values.by_name):
            _check_first_axis(loaded.module, values.by_name[name].ndim)
        feed = ColumnsFeed(values, dtype, loaded.module)
    elif kind == "sparse":
        feed = SparseFeed(values, dtype)
    else:
        _check_first_axis(loaded.module, values.ndim)
        feed = TensorFeed(values, dtype)
    return feed if which is None else SubsetFeed(feed, which)


def _check_first_axis(module: nn.Module, ndim: int) -> None:
    """Refuse a layer of torch's own that takes time steps where rows are.

    It would mix the rows, without an error where there are as many rows as steps.
    """
    part = module
    while type(part) is nn.Sequential and len(part) and not _is_prepared(part):
        part = part[0]
    named, is_prepared = type(part).__name__, _is_prepared(part)
    if type(part) is nn.TransformerEncoder and len(part.layers):
        part = part.layers[0]
    if type(part) is nn.TransformerEncoderLayer:
        part = part.self_attn
    if type(part) not in _OF_SEQUENCES or is_prepared:
        return
    if ndim == _TWO_AXES:
        msg = (
            f"`X` must have an axis of steps between its rows and their features for "
            f"a {named}, which would take the rows for steps. Give X[:, None], or "
            "X[:, :, None]."
        )
        raise ValueError(msg)
    if ndim == _THREE_AXES and not part.batch_first:
        msg = (
            f"`model` must have rows on the first axis: make its {named} with "
            "batch_first=True."
        )
        raise ValueError(msg)


def _is_prepared(module: nn.Module) -> bool:
    """Tell whether a hook may change what a module is given."""
    return bool(vars(module)["_forward_pre_hooks"])


def _array_feed(
    values: NDArray[Any], dtype: torch.dtype, estimator: Any, loaded: LoadedModel
) -> ArrayFeed:
    """Copy batches to where the device reads them best; none where all stays as it is.

    Compiled code may ask of its inputs what a part of an array does not give.
    """
    device = estimator.device
    place = check_device(device[0] if isinstance(device, (list, tuple)) else device)
    on_cpu = place.type == "cpu" and not estimator.compile
    return ArrayFeed(
        values,
        dtype,
        pinned if is_staged(place) else None,
        only_read=on_cpu and only_reads(loaded.module),
    )


def _row_preprocess(values: Any, kind: Kind, given: Any, loaded: LoadedModel) -> Any:
    """Give what makes a batch of a list of rows; None where arrays are cut as a whole.

    What a model brings takes rows that no array holds, and arrays that are raw.
    """
    if given is not None:
        return media_of(given, loaded.module) or given
    if kind in ("sparse", "columns"):
        return None
    media = loaded.media
    first = _first(values)
    if kind in ("rows", "empty"):
        brought = loaded.preprocess
        if kind == "rows" and media is None and (not brought or is_tokenizer(brought)):
            raise TypeError(needs_preprocess(first))
        return media or brought or list
    if not isinstance(first, (np.ndarray, torch.Tensor)):  # of a Dataset
        number = isinstance(first, (int, float, np.number, Mapping))
        return stack_items if number or media is None else media
    takes = getattr(media, "takes", None)
    if takes is not None and takes(tuple(first.shape), first.dtype):
        return media
    return stack_items if kind == "items" else None


def _first(values: Any) -> Any:
    if isinstance(values, Items):
        return values.first
    return values[0] if len(values) else None


def made_up(checked: CheckedRows, estimator: Any, loaded: LoadedModel) -> Feed:
    """Give one row whose outputs have the shapes of those of `X`, which has none."""
    kind, values = checked.kind, checked.values
    row: Any
    if kind == "array":
        row = np.zeros((1, *values.shape[1:]), values.dtype)
    elif kind == "tensor":
        row = values.new_zeros((1, *values.shape[1:]))
    elif kind == "sparse":
        kind, row = "array", np.zeros((1, values.shape[1]), values.dtype)
    elif kind == "columns":
        row = as_columns(
            {name: _zeros(column) for name, column in values.by_name.items()}
        )
    elif is_tokenizer(estimator.preprocess) or loaded.preprocess is not None:
        kind, row = "texts", ["text"]
    elif hasattr(loaded.media, "example"):
        kind, row = "rows", [loaded.media.example()]
    else:
        msg = (
            "`X` has no rows, and how wide the result is cannot be told before a row "
            "was seen: call `fit` first."
        )
        raise ValueError(msg)
    return make_feed(CheckedRows(kind, row, 1), estimator, loaded)


def _zeros(column: Any) -> Any:
    shape = (1, *column.shape[1:])
    if isinstance(column, torch.Tensor):
        return column.new_zeros(shape)
    return np.zeros(shape, column.dtype)


def _text_feed(
    texts: list[str],
    origin: Indices | None,
    preprocess: Any,
    loaded: LoadedModel,
    *,
    forgiving: bool,
) -> Feed:
    chosen = preprocess or loaded.preprocess
    if chosen is None:
        msg = (
            "`X` holds str, and `model` takes tensors: give a `preprocess`, such as "
            "the model's tokenizer, or a model that brings one ('hf:NAME_OR_PATH')."
        )
        raise TypeError(msg)
    if is_tokenizer(chosen):
        return TokenFeed(texts, origin, chosen, loaded.module, forgiving=forgiving)
    if preprocess is None and loaded.lengths is not None:
        lengths = loaded.lengths(texts)
    else:
        lengths = np.array([len(text) for text in texts], np.int64)
    dtype = float_dtype(loaded.module)
    return RowFeed(texts, chosen, dtype, origin=origin, lengths=lengths)
