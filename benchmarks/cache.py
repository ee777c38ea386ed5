"""What keeping rows costs, and what looking them up does.

A first pass with a cache beside one without, a second one that finds all rows, and the
cache by itself: 10,000 vectors of all-MiniLM-L6-v2's width stored, and looked up.
"""

import itertools
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from _loops import load_minilm
from _measure import interleave, machine, table
from _models import rows
from _tweets import tweets

from sklearn_torch_bridge import EmbeddingCache, TorchFeatureExtractor

N_TEXTS, N_ROWS, WIDTH = 500, 10_000, 384


def passes(folder):
    """Compare passes over texts: with no cache, an empty one, and a full one."""
    texts = tweets(N_TEXTS)
    model, tokenizer = load_minilm()
    names = (folder / f"cold-{number}.db" for number in itertools.count())
    full = folder / "full.db"

    def run(cache):
        extractor = TorchFeatureExtractor(model, preprocess=tokenizer, cache=cache)
        return extractor.transform(texts)

    np.testing.assert_array_equal(run(full), run(None))
    np.testing.assert_array_equal(run(full), run(None))
    candidates = {
        "no cache": lambda: run(None),
        "an empty cache": lambda: run(next(names)),
        "a cache with all rows": lambda: run(full),
    }
    title = f"all-MiniLM-L6-v2, {N_TEXTS} tweets"
    return table(title, interleave(candidates, repeats=15))


def vectors(folder):
    """Compare storing vectors, then looking them up, with a file of NumPy's."""
    kept = rows(N_ROWS, WIDTH)
    keys = [number.to_bytes(16, "big") for number in range(N_ROWS)]
    plain = folder / "plain.npy"
    cache, found = EmbeddingCache(folder / "known.db"), np.zeros_like(kept)
    cache.put_many(keys, kept)
    cache.get_into(keys, found)
    np.testing.assert_array_equal(found, kept)
    names = (folder / f"new-{number}.db" for number in itertools.count())

    def store():
        with EmbeddingCache(next(names)) as new:
            new.put_many(keys, kept)

    stored = {"np.save": lambda: np.save(plain, kept), "put_many": store}
    looked_up = {
        "np.load": lambda: np.load(plain),
        "get_into": lambda: cache.get_into(keys, found),
        "get_many": lambda: cache.get_many(keys),
    }
    size = f"{N_ROWS:,} vectors of {WIDTH}"
    yield table(f"{size}, stored", interleave(stored, repeats=15))
    yield table(f"{size}, looked up", interleave(looked_up, repeats=15))
    cache.close()


def main():
    """Print all tables."""
    print("## The cache\n")
    print(f"{machine()}\n")
    with TemporaryDirectory() as folder:
        print(passes(Path(folder)))
        for part in vectors(Path(folder)):
            print(part)


if __name__ == "__main__":
    main()
