"""The table of the kinds of rows, and the way from `X` to batches by it.

A new kind is one file with a `Kind`, and one line here.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing

from sklearn_torch_bridge._rows._arrays import ARRAY
from sklearn_torch_bridge._rows._base import (
    CheckedRows,
    Feed,
    FeedError,
    Kind,
    Receiver,
)
from sklearn_torch_bridge._rows._columns import COLUMNS
from sklearn_torch_bridge._rows._datasets import DATASET
from sklearn_torch_bridge._rows._empty import EMPTY
from sklearn_torch_bridge._rows._entry_faults import as_numbers, is_array
from sklearn_torch_bridge._rows._given_input import Given
from sklearn_torch_bridge._rows._images_and_sound import FILES, MEDIA, raw_media
from sklearn_torch_bridge._rows._preprocessed import PREPROCESSED, preprocessed_feed
from sklearn_torch_bridge._rows._ragged import RAGGED
from sklearn_torch_bridge._rows._sparse_matrices import SPARSE
from sklearn_torch_bridge._rows._stacked import STACKED
from sklearn_torch_bridge._rows._tensors import TENSOR
from sklearn_torch_bridge._rows._texts import TEXTS
from sklearn_torch_bridge._tokenizers import is_tokenizer
from sklearn_torch_bridge._types import Indices
from sklearn_torch_bridge.models import text_part

__all__ = [
    "KINDS",
    "check_rows",
    "check_takes_prompt",
    "kind_of",
    "made_up_rows",
    "make_feed",
]

# In the order in which they are tried: str may name FILES before they are TEXTS; the
# caller's `preprocess` takes rows before MEDIA, and media are arrays of any shapes.
KINDS: tuple[Kind, ...] = (
    EMPTY,
    TENSOR,
    SPARSE,
    COLUMNS,
    DATASET,
    FILES,
    TEXTS,
    PREPROCESSED,
    MEDIA,
    STACKED,
    RAGGED,
    ARRAY,
)
_WITH_TOKENIZER = (EMPTY, DATASET, TEXTS)


def kind_of(given: Given) -> Kind:
    """Return the kind of rows that `X` holds, or refuse what holds none."""
    given.check_usable()
    return next(kind for kind in KINDS if kind.recognises(given))


def check_rows(estimator: Any, X: Any, *, reset: bool) -> CheckedRows:
    """Check all of `X`, before a model is loaded for it.

    With `reset` the estimator learns the number and names of the columns, elsewhere
    it compares them.
    """
    if reset:  # rows of another kind may have none to learn
        for learnt in ("n_features_in_", "feature_names_in_"):
            vars(estimator).pop(learnt, None)
    given = Given(X, estimator, reset)
    if given.forgiving and given.hidden:
        good = np.delete(np.arange(len(X)), [*given.hidden])
        some = check_rows(estimator, _safe_indexing(X, good), reset=reset)
        row, fault = next(iter(given.hidden.items()))
        return replace(some.among(len(X), good), why_bad=f"row {row} {fault}")
    if isinstance(given.first, (list, tuple)) and any(map(is_array, given.entries)):
        given = _rows_of_lists(given) or given  # else NumPy would look into arrays
    try:
        return _checked(given)
    except (TypeError, ValueError):
        one_by_one = _rows_of_lists(given) if given.forgiving else None
        if one_by_one is None:
            raise
    return _checked(one_by_one)


def _checked(given: Given) -> CheckedRows:
    kind = kind_of(given)
    if is_tokenizer(given.preprocess) and kind not in _WITH_TOKENIZER:
        name = type(given.X).__name__
        msg = f"`X` must hold str for a tokenizer, got {name} of others."
        raise TypeError(msg)
    return kind.check(given)


def check_takes_prompt(checked: CheckedRows, preprocess: Any, prompt: Any) -> None:
    """Refuse a prompt for rows that are no texts, or that the caller prepares."""
    if not prompt or checked.kind is EMPTY:
        return
    own = text_part(preprocess)
    if checked.kind is not TEXTS:
        msg = (
            "`prompt` must be None for rows that are no texts, for it is put before "
            f"texts, got {prompt!r} and {checked.kind.name}."
        )
        raise ValueError(msg)
    if own is not None and not is_tokenizer(own):
        msg = (
            "`prompt` must be None with a `preprocess` of your own that takes texts, "
            f"got {prompt!r}. Put it before each text there, or give a tokenizer."
        )
        raise ValueError(msg)


def _rows_of_lists(given: Given) -> Given | None:
    """Return rows of lists as arrays, of which one that is none is a bad row."""
    X = given.X
    if given.preprocess is not None or not isinstance(X, (list, tuple)):
        return None
    if not any(isinstance(row, (list, tuple)) for row in X):
        return None
    rows = [as_numbers(row) if isinstance(row, (list, tuple)) else row for row in X]
    return replace(given, X=rows) if any(map(is_array, rows)) else None


def make_feed(
    checked: CheckedRows, receiver: Receiver, which: Indices | None = None
) -> Feed:
    """Turn checked rows into a feed: all of `values`, or only `which`."""
    values, left = checked.values, which
    if which is not None and isinstance(values, list):
        values, left = [values[row] for row in which], None
    kind, preprocess = checked.kind, receiver.preprocess
    if preprocess is None and kind.has_arrays and raw_media(values, receiver):
        preprocess = receiver.loaded.media
    try:
        if preprocess is not None and kind is not TEXTS:
            feed: Feed = preprocessed_feed(values, preprocess, receiver)
        else:
            feed = kind.feed(values, receiver)
    except FeedError as error:
        rows = checked.caller_rows(error.rows, which)
        raise error.for_rows(rows)  # noqa: B904 - it has its cause
    if receiver.max_length is not None and feed.maximum is None:
        raise _without_lengths(kind, receiver)
    return feed if left is None else feed.subset(left)


def _without_lengths(kind: Kind, receiver: Receiver) -> ValueError:
    """Return the error for a `max_length` of rows that none is cut of."""
    if receiver.preprocess is not None:
        rows, instead = "what your `preprocess` makes", " Cut rows there."
    else:
        rows, instead = kind.name, ""
    msg = (
        f"`max_length` must be None for {rows}, got {receiver.max_length}. It is for "
        "texts with a tokenizer of transformers, for sound, and for lists of arrays of "
        f"different lengths.{instead}"
    )
    return ValueError(msg)


def made_up_rows(checked: CheckedRows, receiver: Receiver) -> CheckedRows:
    """Return one row whose outputs have the shapes of those of `X`."""
    try:
        return checked.kind.made_up(checked.values, receiver)
    except NotImplementedError:  # it has rows, but none that can be used
        return EMPTY.made_up(checked.values, receiver)
