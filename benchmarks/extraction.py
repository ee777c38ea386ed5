"""What the extractor costs beside the best loop one would write by hand, by model."""

import numpy as np
import torch
from _loops import loop_over_rows
from _measure import interleave, machine, table
from _models import cnn, images, mlp, rows, tiny_cnn
from sklearn.base import clone
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor


def arrays():
    """Compare on a small MLP and a small CNN, at batch 256, and on tiny ones.

    In the tiny ones a batch takes 0.4 to 6 ms, mostly to read its rows: there it shows
    that rows are checked and copied, and that Python runs between batches.
    """
    both = torch.get_num_threads()
    wide, narrow, pictures = rows(25_000, 128), rows(50_000, 64), images(2_000)
    work = [
        ("MLP 128-512-128, 25,000 rows", mlp(), wide, 1),
        ("MLP 128-512-128, 25,000 rows", mlp(), wide, both),
        ("CNN of 3 layers, 2,000 images of 32 x 32", cnn(), pictures, both),
        ("tiny: MLP 64-256-64, 50,000 rows", mlp(64, 256), narrow, 1),
        ("tiny: MLP 64-256-64, 50,000 rows", mlp(64, 256), narrow, both),
        ("tiny: CNN of 2 layers with strides", tiny_cnn(), pictures, both),
    ]
    for title, model, X, threads in work:
        torch.set_num_threads(threads)
        extractor = TorchFeatureExtractor(model, batch_size=256)
        np.testing.assert_allclose(
            extractor.transform(X),
            loop_over_rows(model, X, 256),
            rtol=1e-4,
            atol=1e-5,
        )
        candidates = {
            "bare loop": lambda m=model, x=X: loop_over_rows(m, x, 256),
            "TorchFeatureExtractor": lambda e=extractor, x=X: e.transform(x),
        }
        name = f"{title}, batch 256, threads: {threads}"
        yield table(name, interleave(candidates, repeats=31))


def small():
    """Show what one call costs beyond the forward: one row, and a clone."""
    model, one = mlp(64, 256), rows(1, 64)
    extractor = TorchFeatureExtractor(model)
    large = TorchFeatureExtractor(nn.Linear(7_000, 7_000))  # 200 MB
    candidates = {
        "bare forward of one row": lambda: loop_over_rows(model, one, 1),
        "transform of one row": lambda: extractor.transform(one),
        "clone with a 200 MB module": lambda: clone(large),
    }
    return table("one call", interleave(candidates, repeats=201))


def main():
    """Print all tables."""
    print("## Extraction\n")
    print(f"{machine()}\n")
    for part in arrays():
        print(part)
    print(small())


if __name__ == "__main__":
    main()
