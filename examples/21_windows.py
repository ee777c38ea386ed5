"""Tell sounds apart by random convolutions, trained by nobody.

Windows of a sensor hold a rising tone, a falling one or a burst of noise, all of them
faint, anywhere in the window. Many random filters, of each the largest response and the
share of positive ones, and a linear classifier behind them: the idea of ROCKET (A.
Dempster et al., "ROCKET: exceptionally fast and accurate time series classification
using random convolutional kernels", Data Min. Knowl. Disc. 34, 2020). Takes seconds.
"""

# %%
# The windows.
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from sklearn.linear_model import RidgeClassifierCV
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor

mpl.use("agg")  # draw to a file, also where there is no screen
import matplotlib.pyplot as plt

N_SAMPLES, LENGTH, N_FOLDS = 450, 512, 5
KINDS = ["rising", "falling", "burst"]
rng = np.random.default_rng(0)


def make_window(kind):
    steps = np.arange(160)
    pitch = {"rising": steps, "falling": steps[::-1], "burst": steps}[kind]
    event = np.sin(np.cumsum(0.05 + 0.004 * pitch)) * np.hanning(160)
    if kind == "burst":
        event = rng.normal(size=160) * np.hanning(160)
    window = rng.normal(scale=0.3, size=LENGTH)
    start = rng.integers(0, LENGTH - 160)
    window[start : start + 160] += event
    return window.astype(np.float32)


labels = rng.integers(3, size=N_SAMPLES)
windows = np.stack([make_window(KINDS[label]) for label in labels])


# %%
# The model: filters of several widths. It is made anew, the same each time, wherever a
# worker of the search needs it: a callable travels instead of the weights.
class RandomFilters(nn.Module):
    def __init__(self, n_filters, dilations=(1, 2, 4, 8)):
        super().__init__()
        self.bands = nn.ModuleList(
            nn.Conv1d(1, n_filters, 9, dilation=dilation, padding="same")
            for dilation in dilations
        )

    def forward(self, x):
        responses = torch.cat([band(x[:, None]) for band in self.bands], dim=1)
        largest = responses.amax(dim=2)
        positive = (responses > 0).float().mean(dim=2)
        return torch.cat([largest, positive], dim=1)


class Build:
    """Makes a model of a size; a fixed seed makes it the same everywhere."""

    def __init__(self, n_filters):
        self.n_filters = n_filters

    def __call__(self):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return RandomFilters(self.n_filters)


sizes = [1, 4, 16, 64]
head = (StandardScaler(), RidgeClassifierCV(np.logspace(-3, 3, 7)))
search = GridSearchCV(
    make_pipeline(TorchFeatureExtractor(Build(1)), *head),
    {"torchfeatureextractor__model": [Build(size) for size in sizes]},
    cv=N_FOLDS,
)
search.fit(windows, labels)
accuracy = search.cv_results_["mean_test_score"]
spread = search.cv_results_["std_test_score"]
raw = cross_val_score(make_pipeline(*head), windows, labels, cv=N_FOLDS).mean()
print(f"accuracy in {N_FOLDS}-fold cross-validation; chance is 0.33")
print(f"  {'the values themselves':<22} {raw:.2f}")
for size, mean, std in zip(sizes, accuracy, spread, strict=True):
    print(f"  {4 * size:>3} random filters     {mean:.2f} ± {std:.2f}")

# %%
# A window of each kind, and what more filters bring.
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for place, kind in enumerate(KINDS):
    window = windows[np.flatnonzero(labels == place)[0]]
    left.plot(window - 3.2 * place, color="black", linewidth=0.7)
    left.text(-12, -3.2 * place, kind, ha="right", va="center")
left.set(yticks=[], xlabel="step", title="a window of each kind")
left.spines[["top", "right", "left"]].set_visible(False)
right.errorbar([4 * size for size in sizes], accuracy, spread, marker="o", capsize=3)
right.axhline(raw, color="black", linestyle=":", linewidth=1)
right.annotate("the values themselves", (260, raw), va="bottom", ha="right")
right.set(xscale="log", xlabel="random filters", ylabel="accuracy", ylim=(0.25, 1.02))
right.set_xticks([4 * size for size in sizes], [str(4 * size) for size in sizes])
right.minorticks_off()
right.set_title("linear classifier on what filters give")
right.spines[["top", "right"]].set_visible(False)
path = Path("output") / "21_windows.png"
path.parent.mkdir(exist_ok=True)
figure.savefig(path, dpi=150)
print(f"\nfigure: {path.resolve()}")

assert accuracy[-1] > raw + 0.3
