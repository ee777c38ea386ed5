"""What conversion and extraction cost on this machine's accelerator.

Needs one; `python benchmarks/accelerator.py` prints the tables, in about two minutes.
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain

import numpy as np
import torch
from _loops import (
    agreement,
    list_and_cat,
    load_minilm,
    loop_over_rows,
    loop_over_texts,
)
from _measure import interleave, machine, table
from _models import cnn, images, mlp, rows
from _peers import sentence_transformer
from _tweets import tweets
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor, to_numpy

KINDS = [
    ("float32, 2 kB", (16, 32), torch.float32, 201),
    ("float32, 20 MB", (5_000, 1024), torch.float32, 15),
    ("float32, 1 GB", (262_144, 1024), torch.float32, 5),
    ("bfloat16 to float32, 1 GB", (262_144, 1024), torch.bfloat16, 5),
]


def conversions(device: str) -> Iterator[str]:
    """Compare with the chain that everybody writes."""
    for title, shape, dtype, repeats in KINDS:
        x = torch.ones(shape, dtype=dtype, device=device)
        candidates: dict[str, Callable[[], object]] = {
            "x.float().cpu().numpy()": lambda x=x: x.float().cpu().numpy(),
            "x.cpu().float().numpy()": lambda x=x: x.cpu().float().numpy(),
            "to_numpy(x)": lambda x=x: to_numpy(x),
        }
        yield table(title, interleave(candidates, repeats=repeats))


def texts(device: str) -> Iterator[str]:
    """Embed tweets; `encode` of sentence-transformers gives the same means."""
    sample = tweets(20_000)
    model, tokenizer = load_minilm()
    encode = sentence_transformer(device, 256)
    on_device = load_minilm()[0].to(device)
    extractors = {
        f"TorchFeatureExtractor, {name}": TorchFeatureExtractor(
            model, preprocess=tokenizer, pooling="mean", device=device, **parameters
        )
        for name, parameters in {
            "batch_size='auto'": {"batch_size": "auto"},
            "batch_size=256": {"batch_size": 256},
            "'auto', bfloat16": {"batch_size": "auto", "precision": "bfloat16"},
        }.items()
    }

    def loop(**how: object) -> np.ndarray:
        return loop_over_texts(on_device, tokenizer, sample, device=device, **how)

    candidates: dict[str, Callable[[], object]] = {
        "bare loop, sorted, 32,768 tokens a batch": lambda: loop(budget=32_768),
        "bare loop, bfloat16": lambda: loop(budget=32_768, half=True),
        "sentence-transformers, 256 rows": lambda: encode(sample),
        **{name: lambda e=e: e.transform(sample) for name, e in extractors.items()},
    }
    like = loop_over_texts(model, tokenizer, sample[:200])
    same = {}
    for name, run in candidates.items():
        cosine, apart = agreement(np.asarray(run())[:200], like)
        same[name] = f"{cosine:.6f}, {apart:.1e}"
    yield table(
        "20,000 tweets, all-MiniLM-L6-v2",
        interleave(candidates, repeats=5),
        {"lowest cosine, largest difference to the CPU": same},
    )


def arrays(device: str) -> Iterator[str]:
    """Compare with the loops that people write, at 256 and 1,024 rows a batch."""
    wide, pictures = rows(400_000, 128), images(40_000)
    work: list[tuple[str, nn.Module, np.ndarray, int]] = [
        ("MLP 128-512-128, 400,000 rows, batch 256", mlp(), wide, 256),
        ("MLP 128-512-128, 400,000 rows, batch 1,024", mlp(), wide, 1_024),
        ("CNN of 3 layers, 40,000 images, batch 256", cnn(), pictures, 256),
    ]
    for title, model, X, size in work:
        extractor = TorchFeatureExtractor(model, batch_size=size, device=device)
        by_itself = TorchFeatureExtractor(model, batch_size="auto", device=device)
        expected = TorchFeatureExtractor(model, device="cpu").transform(X[:500])
        found = extractor.transform(X[:500])
        on_device = mlp().to(device) if X is wide else cnn().to(device)
        candidates: dict[str, Callable[[], object]] = {
            "bare loop, .cpu() a batch": lambda m=on_device, x=X, n=size: (
                loop_over_rows(m, x, n, device=device)
            ),
            "TorchFeatureExtractor": lambda e=extractor, x=X: e.transform(x),
            "TorchFeatureExtractor, 'auto'": lambda e=by_itself, x=X: e.transform(x),
        }
        if X is wide:
            joined = partial(list_and_cat, on_device, X, size, device=device)
            candidates["list of batches, torch.cat"] = joined
        yield table(title, interleave(candidates, repeats=7))
        yield f"Largest difference to the CPU: {np.abs(found - expected).max():.1e}.\n"


def main() -> None:
    if not torch.accelerator.is_available():
        sys.exit("This machine has no accelerator that PyTorch knows.")
    device = torch.accelerator.current_accelerator().type
    name = torch.get_device_module(device).get_device_name()
    print(f"## On an accelerator\n\n{name}; {machine('sentence-transformers')}\n")
    for part in chain(conversions(device), arrays(device), texts(device)):
        print(part, flush=True)


if __name__ == "__main__":
    main()
