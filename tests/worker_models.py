"""Models for worker processes, which record in a folder what became of them."""

import os
import signal
from pathlib import Path

import numpy as np
import torch
from torch import nn


class Noted(nn.Module):
    """Notes in a folder which process has loaded it, each time."""

    def __init__(self, folder, n_in=4, n_hidden=600, n_out=3):
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Sequential(
            nn.Linear(n_in, n_hidden), nn.Linear(n_hidden, n_out)
        )
        self.witness = Witness(folder)

    def forward(self, x):
        return self.inner(x)


class Witness:
    """Loaded with its module; replicas share what can be called."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __call__(self):
        raise NotImplementedError

    def __setstate__(self, state):
        vars(self).update(state)
        note(self.folder)


class Killing(nn.Module):
    """Ends its process, as a machine that is lost, the first time a row is at 13."""

    def __init__(self, folder):
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Linear(4, 3000)
        self.folder = str(folder)

    def forward(self, x):
        if bool((x[:, 0] == 13).any()):
            try:
                Path(self.folder, "killed").touch(exist_ok=False)
            except FileExistsError:
                return self.inner(x)
            os.kill(os.getpid(), signal.SIGKILL)
        return self.inner(x)


class Builder:
    """A callable that builds a model, and notes which process has called it."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __call__(self):
        note(self.folder)
        torch.manual_seed(0)
        return nn.Linear(4, 3)


def note(folder):
    """Add one line in one write, so that lines of two processes do not mix."""
    with Path(folder, "loads").open("a") as file:
        file.write(f"{os.getpid()}\n")


def loads_in(folder):
    """Return the process of each load so far, but for this one's."""
    path = Path(folder, "loads")
    pids = path.read_text().split() if path.exists() else []
    return [pid for pid in pids if int(pid) != os.getpid()]


class Letters(nn.Module):
    """A text model in small: the mean of what each letter stands for."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.letters = nn.Embedding(256, 5)

    def forward(self, input_ids, attention_mask):
        return {"last_hidden_state": torch.tanh(self.letters(input_ids))}


def as_letters(texts):
    """Return the bytes of texts, padded with zeros, and which of them are real."""
    rows = [list(text.encode()) or [0] for text in texts]
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    mask = np.zeros_like(ids)
    for row, letters in enumerate(rows):
        ids[row, : len(letters)] = letters
        mask[row, : len(letters)] = 1
    return {
        "input_ids": torch.from_numpy(ids),
        "attention_mask": torch.from_numpy(mask),
    }
