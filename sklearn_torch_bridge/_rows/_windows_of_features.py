"""Windows of texts for a model that brings its own way from texts to features.

Its `preprocess` takes texts alone. Windows are cut from ids of its tokenizer, and made
into features as those that it makes of a text itself.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sklearn_torch_bridge._rows._base import Receiver
from sklearn_torch_bridge._rows._windows import n_common
from sklearn_torch_bridge._tokenizers import is_tokenizer
from sklearn_torch_bridge._types import Inputs, Preprocess
from sklearn_torch_bridge.models import NO_MAXIMUM

__all__ = ["FeaturesOfIds", "tokenizer_of_windows"]

_IDS = "input_ids"
_TWO_AXES = 2


def tokenizer_of_windows(receiver: Receiver) -> Any:
    """Return the tokenizer of a model, which cuts its texts; None where nothing does.

    None as well where no windows are asked for.
    """
    if receiver.windows is None:
        return None
    module = receiver.loaded.module
    tokenizer = getattr(module, "tokenizer", None)
    if is_tokenizer(tokenizer):
        return tokenizer
    longest = getattr(module, "max_seq_length", None)
    if longest is None or longest >= NO_MAXIMUM:
        return None
    msg = (
        "`too_long` must not be 'windows' for a `model` that has no tokenizer of "
        f"transformers and cuts texts at {longest} tokens itself. Give texts of at "
        "most that many, and `too_long`='cut'."
    )
    raise ValueError(msg)


@dataclass(frozen=True)
class FeaturesOfIds:
    """Makes features of ids, `like` those of one text that the model has made.

    The first `n_unpooled` tokens of each row do not enter its vector.
    """

    like: Mapping[str, Any]
    row: int  # of the text that they are of
    n_unpooled: int = 0

    @classmethod
    def made_by(cls, preprocess: Preprocess, texts: Sequence[str]) -> "FeaturesOfIds":
        """Return what makes features as a `preprocess` makes them of texts."""
        row = max(range(len(texts)), key=lambda row: len(texts[row]))
        made = preprocess([texts[row]])
        return cls(made.args[0], row, made.n_prompt)

    def __call__(self, given: Mapping[str, torch.Tensor]) -> Inputs:
        """Return the features of a batch of padded ids."""
        n_rows = len(given[_IDS])
        features = dict(self.like)
        for name, value in self.like.items():
            if name in self._names:
                features[name] = given[name]
            elif isinstance(value, list):
                features[name] = value * n_rows
        mask = given["attention_mask"]
        return Inputs((features,), mask=mask, n_prompt=self.n_unpooled)

    @property
    def _names(self) -> set[str]:
        """The features that there are for each token."""
        shape = self.like[_IDS].shape
        return {
            name
            for name, value in self.like.items()
            if isinstance(value, torch.Tensor) and value.shape == shape
        }

    def check(self, names: Iterable[str], ids: Sequence[int]) -> None:
        """Refuse windows if of a text that has `ids` the model makes other features.

        It has cut the text, but for what stands behind all texts.
        """
        fault = self._fault({*names, "attention_mask"}, ids)
        if fault is not None:
            msg = (
                "`too_long` must not be 'windows' for a `model` that prepares texts in "
                f"a way of its own: {fault}. Give shorter texts, or `too_long`='cut'."
            )
            raise ValueError(msg)

    def _fault(self, names: set[str], ids: Sequence[int]) -> str | None:
        shape = getattr(self.like.get(_IDS), "shape", ())
        if len(shape) != _TWO_AXES:
            return "it makes no ids of them"
        for name, value in self.like.items():
            is_tensor = isinstance(value, torch.Tensor) and value.ndim > 0
            if is_tensor and not (name in names and name in self._names):
                return f"its tokenizer makes no {name!r}"
        own = self.like[_IDS][0].tolist()
        behind = own[n_common(own, ids) :]
        is_same = behind == list(ids[len(ids) - len(behind) :])
        return None if is_same else "it makes other ids of them than its tokenizer"
