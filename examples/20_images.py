"""Find pictures that show the same, from files, by a layer of a small CNN.

A network learns digits 0 to 4, each somewhere on a dark canvas. Are digits 5 to 9,
which it has never seen, near each other in one of its layers? Pixels cannot tell: a
digit that has moved has other pixels. The digits come with scikit-learn. Takes about
ten seconds.
"""

# %%
# The pictures: each digit somewhere on a canvas, written as files, as one has them.
from pathlib import Path
from tempfile import mkdtemp

import matplotlib as mpl
import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor, layer_table

mpl.use("agg")  # draw to a file, also where there is no screen
import matplotlib.pyplot as plt

SIDE, N_NEIGHBORS = 20, 8
rng = np.random.default_rng(0)
torch.manual_seed(0)

digits, labels = load_digits(return_X_y=True)
pictures = np.zeros((len(digits), SIDE, SIDE), np.uint8)
for picture, digit in zip(pictures, digits.reshape(-1, 8, 8), strict=True):
    top, left = rng.integers(0, SIDE - 8, 2)
    picture[top : top + 8, left : left + 8] = digit * 15
folder = Path(mkdtemp())
paths = np.array([folder / f"{row:04}.png" for row in range(len(pictures))])
for path, picture in zip(paths, pictures, strict=True):
    Image.fromarray(picture).save(path)
seen = np.isin(labels, range(5))


# %%
# The network, and how a list of paths becomes what it takes.
def read(paths):
    arrays = [np.array(Image.open(path), np.float32) / 255 for path in paths]
    return torch.from_numpy(np.stack(arrays))[:, None]


network = nn.Sequential(
    *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()),
    *(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(64, 5)),
)
images, targets = read(paths[seen]), torch.from_numpy(labels[seen])
optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
for _ in range(12):
    for batch in torch.randperm(len(images)).split(64):
        loss = nn.functional.cross_entropy(network(images[batch]), targets[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

# %%
# What can be tapped, with the shape and the cost of each layer. Files are read in
# threads while the network runs.
extractor = TorchFeatureExtractor(
    network, preprocess=read, layer="7", pooling="max", num_workers=2
)
print(layer_table(extractor, paths[:32]))
unseen = np.flatnonzero(~seen)
spaces = {
    "pixels": pictures[unseen].reshape(len(unseen), -1).astype(np.float32),
    "layer 7": extractor.fit_transform(paths[unseen]),
}
neighbors, precision = {}, {}
for name, Z in spaces.items():
    index = NearestNeighbors(n_neighbors=N_NEIGHBORS, metric="cosine").fit(Z)
    found = index.kneighbors(return_distance=False)
    neighbors[name] = unseen[found]
    precision[name] = np.mean(labels[unseen[found]] == labels[unseen, None])
print(f"\nof {N_NEIGHBORS} neighbours of a digit never seen, show the same digit")
for name, share in precision.items():
    print(f"  {name:<8} {share:.2f}")

# %%
# One digit of each kind with its neighbours; a frame marks those that show another.
queries = [np.flatnonzero(labels[unseen] == digit)[3] for digit in range(5, 10)]
figure = plt.figure(figsize=(9, 4.2), layout="constrained")
for part, name in zip(figure.subfigures(1, 2), spaces, strict=True):
    part.suptitle(f"nearest by {name}: {precision[name]:.0%} show the same digit")
    for row, axes in zip(queries, part.subplots(5, 6), strict=True):
        shown = [unseen[row], *neighbors[name][row][:5]]
        for place, (ax, picture) in enumerate(zip(axes, shown, strict=True)):
            ax.imshow(pictures[picture], cmap="gray")
            ax.set(xticks=[], yticks=[])
            wrong = labels[picture] != labels[unseen[row]]
            ax.spines[:].set(color="C1" if wrong else "none", linewidth=3)
            if place == 0:
                ax.set_ylabel(labels[picture], rotation=0, va="center", labelpad=8)
path = Path("output") / "20_images.png"
path.parent.mkdir(exist_ok=True)
figure.savefig(path, dpi=150)
print(f"\nfigure: {path.resolve()}")

assert precision["layer 7"] > precision["pixels"] + 0.2
