"""Tiny modules, each built to show one thing."""

from collections import OrderedDict
from typing import NamedTuple

import torch
from torch import nn


class RowSum(nn.Module):
    """Takes rows of any width, as scikit-learn's checks want it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(1, 2, 64))

    def forward(self, x):
        weighted = x * self.weight[: x.shape[1]]
        return torch.stack([weighted.sum(1), weighted.mean(1)], 1)


class Doubling(nn.Module):
    """A chain whose values are plain: "1" gives 2x, "2" 4x, "3" 8x, and so on."""

    def __init__(self, depth=3):
        super().__init__()
        self.blocks = nn.ModuleList(Times(2) for _ in range(depth))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x * self.factor


class Counting(nn.Module):
    """Counts rows and forwards outside itself, so that replicas count too."""

    def __init__(self, inner=None):
        super().__init__()
        self.inner = inner or nn.Identity()
        self.tally = Tally()

    def forward(self, *args, **kwargs):
        first = next(iter((*args, *kwargs.values())))
        self.tally(len(first))
        return self.inner(*args, **kwargs)


class Tally:
    """Shared by replicas: what can be called is code to them, not state."""

    def __init__(self):
        self.sizes = []

    def __call__(self, n_rows):
        self.sizes.append(n_rows)

    @property
    def rows(self):
        return sum(self.sizes)


class Failing(nn.Module):
    """Raises where the first column is above a limit."""

    def __init__(self, limit, error=None):
        super().__init__()
        self.limit = limit
        self.error = error or RuntimeError("boom")

    def forward(self, x):
        if bool((x[:, 0] > self.limit).any()):
            raise self.error
        return x


class Stateful(nn.Module):
    """Writes to all that a forward can write to."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("seen", torch.zeros(1))
        self.count = 0
        self.history = []
        self.cache = {}
        self.limit = None

    def forward(self, x):
        self.seen += len(x)
        self.count += 1
        self.history.append(len(x))
        self.cache["last"] = x
        torch.rand(1)
        result = self.drop(self.norm(x))
        if self.limit is not None and bool((x[:, 0] > self.limit).any()):
            msg = "boom"
            raise RuntimeError(msg)
        return result


class Returning(nn.Module):
    """Gives whatever `make` makes of the input."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, x):
        return self.make(x)


class Pair(NamedTuple):
    left: torch.Tensor
    right: torch.Tensor


class Tokens(nn.Module):
    """A text model in small: embeds ids, and mixes their features."""

    def __init__(self, n_words=30_522, n_features=8):
        super().__init__()
        self.words = nn.Embedding(n_words, n_features)
        self.last = nn.Linear(n_features, n_features)

    def forward(self, input_ids, attention_mask):
        hidden = self.words(input_ids)
        return {
            "last_hidden_state": self.last(hidden),
            "lengths": attention_mask.sum(1),
        }


def mlp(n_in=4, n_out=3, seed=0):
    torch.manual_seed(seed)
    layers = [
        ("first", nn.Linear(n_in, 8)),
        ("act", nn.ReLU()),
        ("second", nn.Linear(8, n_out)),
    ]
    return nn.Sequential(OrderedDict(layers))


def cnn(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(4, 5, 3)
    )


class Letters:
    """A tokenizer of letters that leaves out the mask and has no padding token."""

    pad_token_id = None
    eos_token_id = 9
    model_input_names = ("input_ids",)
    model_max_length = 10**30

    def __call__(self, texts, *, truncation):
        assert truncation is False
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}


class Items(torch.utils.data.Dataset):
    """A Dataset of what a list holds."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        return self.items[row]
