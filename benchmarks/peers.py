"""The extractor beside what else embeds texts and rows: time, memory, and the floor.

All ways of one table take turns in one run, give equal results (checked before they are
timed, except where the table says otherwise) and load their models beforehand. With
--profile it shows instead where the extractor's own time goes.
"""

import argparse
import inspect
import os
import time
from collections.abc import Callable, Mapping, Sequence

import _peers
import numpy as np
import torch
from _costs import costs, profile
from _floor import copy_seconds, work_of
from _loops import (
    agreement,
    layers_by_hooks,
    list_and_cat,
    load_minilm,
    loop_over_rows,
    loop_over_texts,
    loop_without_order,
)
from _measure import Timing, machine, table, unit
from _memory import CASES, TO_FILE, Growth, growth
from _models import bert, cnn, images, mlp, rows, tiny_cnn
from _tweets import tweets
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor

PEERS = ("sentence-transformers", "skrub", "embetter", "skorch", "lightning")
OURS = "TorchFeatureExtractor"
EQUAL, HALF = 1e-5, 5e-2  # largest difference of rows of length 1
BATCH = 256
DTYPES = {False: torch.float32, True: torch.bfloat16}  # by whether half

Way = Callable[[], np.ndarray]


def check_equal(ways: Mapping[str, Way], *, but: Sequence[str] = ()) -> dict[str, str]:
    """Run each way once, compare it with the first, and give the lowest cosines."""
    results = {name: run() for name, run in ways.items()}
    like = next(iter(results.values()))
    cosines = {}
    for name, Z in results.items():
        cosine, difference = agreement(Z, like)
        most = HALF if "bfloat16" in name else EQUAL
        if name not in but and not difference <= most:
            msg = f"{name} differs from the first by {difference:.2g}."
            raise AssertionError(msg)
        cosines[name] = f"{cosine:.6f}"
    return cosines


def over_floor(
    seconds: Mapping[str, list[float]], floor: Callable[[str], float]
) -> dict[str, str]:
    """Compare the fastest run of each way with what its work takes at least."""
    return {name: f"{min(taken) / floor(name):.2f}" for name, taken in seconds.items()}


def our_ways(model: nn.Module, tokenizer: object, texts: list[str]) -> dict[str, Way]:
    """Give the extractor with each option for speed that it has."""
    known = inspect.signature(TorchFeatureExtractor).parameters
    settings: dict[str, dict[str, object]] = {OURS: {}}
    settings["batch_size='auto'"] = {"batch_size": "auto"}
    settings["precision='bfloat16'"] = {"precision": "bfloat16"}
    settings["compile=True"] = {"compile": True}
    both = {"compile": True, "precision": "bfloat16"}
    settings["compile=True, 'bfloat16'"] = both
    settings["compile=True, 'bfloat16', batch 128"] = both | {"batch_size": 128}
    ways = {}
    for name, options in settings.items():
        if options.keys() <= known.keys():
            extractor = TorchFeatureExtractor(model, preprocess=tokenizer, **options)
            ways[name] = lambda extractor=extractor: extractor.transform(texts)
    return ways


def text(timing: Timing) -> str:
    """Compare on all-MiniLM-L6-v2 and tweets."""
    model, tokenizer = load_minilm()
    texts = tweets(1_000)
    encoders = {
        "sentence-transformers": _peers.sentence_transformer(),
        "skrub LLMEncoder": _peers.skrub(texts[:40]),
        "embetter": _peers.embetter(),
        "Hugging Face pipeline": _peers.pipeline(model, tokenizer),
        "unsorted loop": lambda X: loop_without_order(model, tokenizer, X),
    }
    ways: dict[str, Way] = {
        "bare loop": lambda: loop_over_texts(model, tokenizer, texts),
        "bare loop, 1,024 tokens": lambda: loop_over_texts(
            model, tokenizer, texts, budget=1_024
        ),
        "bare loop, bfloat16": lambda: loop_over_texts(
            model, tokenizer, texts, half=True
        ),
        **our_ways(model, tokenizer, texts),
        **{name: lambda run=run: run(texts) for name, run in encoders.items()},
    }
    cosines = check_equal(ways, but=["Hugging Face pipeline"])
    seconds = timing.interleave(ways, repeats=7)
    work = work_of(model, ways["bare loop"])
    floors = {half: work.seconds(timing, dtype) for half, dtype in DTYPES.items()}
    more = {
        "÷ floor": over_floor(seconds, lambda name: floors["bfloat16" in name]),
        "lowest cosine": cosines,
    }
    title = "all-MiniLM-L6-v2, 1,000 tweets, batch 32"
    return (
        table(title, seconds, more) + f"\nThe floor: {work.flops / 1e9:.0f} GFLOP, "
        f"{unit(floors[False])} in float32, {unit(floors[True])} in bfloat16.\n"
    )


def arrays(timing: Timing) -> str:
    """Compare on small models and rows in memory, with one thread."""
    pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    cases = {
        "MLP 128-512-128, 25,000 rows": (mlp(), rows(25_000)),
        "CNN of 3 layers, 1,000 images": (nn.Sequential(cnn(), *pooled), images(1_000)),
        "CNN of 2 layers with strides, 2,000 images": (
            nn.Sequential(tiny_cnn(), *pooled),
            images(2_000),
        ),
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    tables = [one_array(timing, title, *case) for title, case in cases.items()]
    torch.set_num_threads(threads)
    return "\n".join(tables)


def one_array(timing: Timing, title: str, model: nn.Module, X: np.ndarray) -> str:
    """Compare on one model and its rows."""
    extractor = TorchFeatureExtractor(model, batch_size=BATCH)
    peers = {
        "skorch forward": _peers.skorch_forward(model, BATCH),
        "skorch predict": _peers.skorch_predict(model, BATCH),
        "Lightning predict": _peers.lightning_predict(model, BATCH),
    }
    ways: dict[str, Way] = {
        "bare loop": lambda: loop_over_rows(model, X, BATCH),
        OURS: lambda: extractor.transform(X),
        "list and cat": lambda: list_and_cat(model, X, BATCH),
        **{name: lambda run=run: run(X) for name, run in peers.items()},
    }
    check_equal(ways)
    seconds = timing.interleave(ways, repeats=15)
    work = work_of(model, ways["bare loop"])
    moved = copy_seconds((X.nbytes + ways["bare loop"]().nbytes) // 2, timing)
    computed = work.seconds(timing)
    more = {"÷ floor": over_floor(seconds, lambda _: computed + moved)}
    return (
        table(f"{title}, batch {BATCH}, one thread", seconds, more)
        + f"\nThe floor: {work.flops / 1e9:.2f} GFLOP in {unit(computed)}, and "
        f"{unit(moved)} to read the rows and write the result once.\n"
    )


def layers(timing: Timing) -> str:
    """Compare stopping early, and several layers at once, with one full pass."""
    model = bert()
    X = np.random.default_rng(0).integers(0, 1_000, (64, 32))
    names = [f"encoder.layer.{block}" for block in (2, 5, 11)]
    tapped = {
        OURS: None,
        f"{OURS}, block 3": names[0],
        f"{OURS}, blocks 3, 6, 12": names,
    }
    extractors = {
        name: TorchFeatureExtractor(model, layer=layer)
        for name, layer in tapped.items()
    }
    ways: dict[str, Way] = {
        "bare loop": lambda: layers_by_hooks(model, X, names[-1:], 32),
        **{
            name: lambda extractor=extractor: extractor.transform(X)
            for name, extractor in extractors.items()
        },
        "hooks and lists, block 3": lambda: layers_by_hooks(model, X, names[:1], 32),
        "hooks and lists, blocks 3, 6, 12": lambda: layers_by_hooks(
            model, X, names, 32
        ),
    }
    for which in ("", ", block 3", ", blocks 3, 6, 12"):
        ours, theirs = OURS + which, f"hooks and lists{which}" if which else "bare loop"
        check_equal({theirs: ways[theirs], ours: ways[ours]})
    seconds = timing.interleave(ways, repeats=7)
    work = work_of(model, ways["bare loop"]).seconds(timing)
    floor = {name: work / 4 if "block 3" in name else work for name in ways}
    return table(
        "BERT of 12 blocks, 64 x 32 tokens, batch 32",
        seconds,
        {"÷ floor": over_floor(seconds, floor.__getitem__)},
    )


def memory(_: Timing) -> str:
    """Compare how far each way raises the memory of a process of its own."""
    heads = ("case", "way", "peak growth", "result", "one forward", "peak ÷ both")
    lines = [
        f"| {' | '.join(heads)} | with glibc's defaults |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for case, ways in CASES.items():
        for way in ways:
            grown = growth(case, way)
            sizes = (grown.peak, grown.result, grown.forward)
            cells = " | ".join(f"{size / 1e6:.1f} MB" for size in sizes)
            usual = ""
            if way in (OURS, "bare loop"):
                usual = share(growth(case, way, gives_back=False), way)
            lines.append(
                f"| {case} | {way} | {cells} | {share(grown, way)} | {usual} |"
            )
    return "\n".join(lines) + "\n"


def share(grown: Growth, way: str) -> str:
    """Divide a peak by what had to be held; of a file, nothing had to."""
    if way == TO_FILE:
        return f"{grown.peak / grown.result:.2f} of the file"
    return f"{grown.peak / (grown.result + grown.forward):.2f}"


def profiles(timing: Timing) -> str:
    """Show where the extractor's own time goes, where it could be seen at all."""
    model, tokenizer = load_minilm()
    small = TorchFeatureExtractor(mlp(64, 256))
    large = TorchFeatureExtractor(mlp(), batch_size=BATCH)
    maps = TorchFeatureExtractor(tiny_cnn(), batch_size=BATCH)
    encoder = TorchFeatureExtractor(model, preprocess=tokenizer)
    runs = {
        "one row": (small, rows(1, 64), 500),
        "100 batches of the MLP": (large, rows(100 * BATCH), 20),
        "8 batches of images": (maps, images(8 * BATCH), 20),
        "64 tweets": (encoder, tweets(64), 3),
    }
    return "\n".join(
        profile(timing, title, lambda e=extractor, X=X: e.transform(X), calls=calls)
        for title, (extractor, X, calls) in runs.items()
    )


SECTIONS = {
    "text": ("Texts", text),
    "arrays": ("Rows in memory", arrays),
    "costs": ("What a call and a batch cost", costs),
    "layers": ("Layers", layers),
    "memory": ("Memory", memory),
}


def main() -> None:
    """Print the tables asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=SECTIONS, help="one section")
    parser.add_argument(
        "--limit", type=float, default=100, help="seconds after which no round begins"
    )
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="count one thread's CPU time: steadier where others use the machine",
    )
    parser.add_argument("--profile", action="store_true", help="the extractor's time")
    asked = parser.parse_args()
    if asked.cpu_time:
        torch.set_num_threads(1)
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
    clock = time.process_time if asked.cpu_time else time.perf_counter
    timing = Timing(clock, asked.limit)
    print("## Beside other libraries\n")
    print(f"{machine(*PEERS)}{' CPU time.' if asked.cpu_time else ''}\n")
    if asked.profile:
        print(profiles(timing))
        return
    for name, (title, section) in SECTIONS.items():
        if asked.only in (None, name):
            print(f"### {title}\n\n{section(timing)}", flush=True)


if __name__ == "__main__":
    main()
