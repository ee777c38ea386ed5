"""No rows at all: nothing says what they would hold."""

from collections.abc import Mapping
from typing import Any

from scipy.sparse import issparse

from sklearn_torch_bridge._rows._base import CheckedRows, Kind, Receiver
from sklearn_torch_bridge._rows._given_input import Given
from sklearn_torch_bridge._rows._images_and_sound import MEDIA
from sklearn_torch_bridge._rows._texts import TEXTS
from sklearn_torch_bridge._tokenizers import is_tokenizer

__all__ = ["EMPTY"]


class _Empty(Kind):
    """An empty list, Series, Dataset or array of one axis."""

    name = "no rows"

    def recognises(self, given: Given) -> bool:
        X = given.X
        if isinstance(X, Mapping) or issparse(X) or not hasattr(X, "__len__"):
            return False
        if getattr(X, "ndim", 1) == 1 and len(X) == 0:
            return True
        # One column without rows, for a `preprocess` that takes its entries.
        return given.preprocess is not None and given.entries in ([], ())

    def check(self, given: Given) -> CheckedRows:
        given.check_not_empty(0)
        return CheckedRows(self, [], 0)

    def made_up(self, values: Any, receiver: Receiver) -> CheckedRows:
        loaded = receiver.loaded
        if is_tokenizer(receiver.preprocess) or loaded.preprocess is not None:
            return CheckedRows(TEXTS, ["text"], 1)
        if hasattr(loaded.media, "example"):
            return CheckedRows(MEDIA, [loaded.media.example()], 1)
        msg = (
            "`X` has no rows, and how wide the result is cannot be known before a row "
            "was seen: call `fit` first."
        )
        raise ValueError(msg)


EMPTY = _Empty()
