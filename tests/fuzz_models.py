"""Models and texts of the fuzz, and by hand what the models make of a row."""

import numpy as np
import torch
from torch import nn

from tests.tiny_models import Letters

TABLE = np.cos(np.arange(64.0)[:, None] * [1.0, 2.0])  # weights of the model below


class Weighted(nn.Module):
    """Two weighted sums of the values of a row."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(TABLE, dtype=torch.float32))

    def forward(self, x):
        flat = x.flatten(1).to(self.weight.dtype)
        return flat @ self.weight[: flat.shape[1]]


class Masked(nn.Module):
    """Gives rows as they are, and has a name for their mask."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x, attention_mask=None):
        return x * self.scale


class Fields(Weighted):
    def forward(self, x):
        return {"b": x, "a": super().forward(x)}


class Sums(Weighted):
    """Takes its rows by name."""

    def forward(self, x, y=None):
        found = super().forward(x)
        return found if y is None else found + super().forward(y)


def weighted(row):
    return row.ravel() @ TABLE[: row.size]


POOLED = {
    "flatten": lambda row: row.ravel(),
    "mean": lambda row: _over_space(row, np.mean),
    "max": lambda row: _over_space(row, np.max),
    "auto": lambda row: _over_space(row, np.mean),
}


def _over_space(row, reduce):
    """Reduce the tokens of a row of two axes, and the space of one of more."""
    if row.ndim == 1:
        return row
    return reduce(row, axis=0 if row.ndim == 2 else tuple(range(1, row.ndim)))


TEXTS = [
    "a",
    "bc",
    "",
    "ok \ud83d bad",
    "\x00",
    "é\u0301",
    "\U0001d4b3",
    "\u202eabc",
    "日本語",
]
TEXTS += ["x" * 300, "a b", "\n", "\ufeff", "z\udfff"]


def features(texts):
    pairs = [(len(text), sum(text.encode()) % 97) for text in texts]
    return torch.tensor(pairs, dtype=torch.float32)


class Words(nn.Module):
    """A weight a letter."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, input_ids):
        return torch.stack([input_ids % 97, input_ids % 89], -1) * self.scale


class StrictLetters(Letters):
    """Fails on what is no Unicode, as tokenizers do."""

    def __call__(self, texts, **options):
        for text in texts:
            text.encode()
        return super().__call__(texts, **options)


def by_letter(text):
    ids = np.array([ord(letter) for letter in text])
    return np.stack([ids % 97, ids % 89], -1).mean(0)


def is_unicode(text):
    return not any(0xD800 <= ord(letter) < 0xE000 for letter in text)
