"""How far a way of extraction raises the memory of its process, over a warm-up.

Each way runs in a process of its own. After a warm-up that process gives back what the
allocator keeps and resets the kernel's record of its peak, which misses nothing; what
the peak holds of files (libraries paged in) is taken off. Where the result is itself a
mapped file, the peak is the largest of about a thousand looks a second from outside.

By default glibc keeps freed blocks of up to 32 MB, in pieces, so that even a row of
bare forward passes grows beyond the largest of them. What a way needs shows when blocks
from 128 kB are given back at once (``MALLOC_MMAP_THRESHOLD_``).

Started as a script, this module is such a process.
"""

import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import _peers
import numpy as np
import torch
from _loops import (
    list_and_cat,
    load_minilm,
    loop_over_rows,
    loop_over_texts,
    loop_over_windows,
    loop_without_order,
    token_batches,
)
from _models import cnn, images, mlp, rows
from _tweets import documents, tweets
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor

__all__ = ["CASES", "TO_FILE", "WINDOWS", "Growth", "growth", "status"]

BATCH = 256
WARM_UP = 4  # batches
OURS, TO_FILE = "TorchFeatureExtractor", "transform_to_file"
PEERS = {
    "skorch forward": _peers.skorch_forward,
    "Lightning predict": _peers.lightning_predict,
}
OF_ARRAYS = (OURS, "bare loop", "list and cat", *PEERS)
OF_FILES = (TO_FILE,) if hasattr(TorchFeatureExtractor, TO_FILE) else ()

CASES = {
    "MLP": (*OF_ARRAYS, *OF_FILES),
    "CNN": OF_ARRAYS,
    "texts": (OURS, "bare loop", "unsorted loop", "sentence-transformers"),
}
WINDOWS = "windows of long documents"


@dataclass
class Growth:
    """The peak over the state before, and what it had to hold at least, in bytes."""

    peak: int
    result: int
    forward: int


def growth(case: str, way: str, *, gives_back: bool = True) -> Growth:
    """Measure one way of one case in a process of its own."""
    command = [sys.executable, __file__, case, way]
    setting = {"MALLOC_MMAP_THRESHOLD_": "131072"} if gives_back else {}
    with subprocess.Popen(  # noqa: S603 - this file
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **setting},
    ) as child:
        before = int(child.stdout.readline())
        with _watch(child.pid) as seen:
            told = json.loads(child.stdout.readline())
        if told["peak"] is None:
            told["peak"] = max(seen) - before
        return Growth(**told)


@contextmanager
def _watch(process: int) -> Iterator[list[int]]:
    """Look at the anonymous memory of a process, again and again."""
    seen: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            seen.append(status(process)["RssAnon"])

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()


def _measure(case: str, way: str) -> None:
    """Be the process: tell the memory before, and when done what it took."""
    torch.set_num_threads(1)
    model, X = _work(case)
    run, forward = _way(way, model, case), _forward(model, X)
    run(X[: WARM_UP * (BATCH if isinstance(X, np.ndarray) else 32)])
    forward()
    forward_bytes, _ = _peak(forward)
    gc.collect()
    _trim()
    print(status("self")["RssAnon"], flush=True)
    peak, result = _peak(lambda: run(X))
    is_mapped = isinstance(result, np.memmap)
    told = Growth(None if is_mapped else peak, result.nbytes, forward_bytes)
    print(json.dumps(vars(told)), flush=True)
    sys.stdin.read()  # until it was looked at


def _work(case: str) -> tuple[Any, Any]:
    """Give the model and the rows of a case."""
    if case == "MLP":
        return mlp(), rows(100_000)
    if case == "CNN":
        pooled = nn.Sequential(cnn(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return pooled, images(2_000)
    if case == WINDOWS:
        model = load_minilm()
        return model, documents(200, 2_000, model[1])
    return load_minilm(), tweets(300)


def _forward(model: Any, X: Any) -> Callable[[], Any]:
    """Give the forward pass of the largest batch, by itself."""
    if isinstance(model, nn.Module):
        module, inputs = model, {"input": torch.from_numpy(X[:BATCH])}
    else:
        module, tokenizer = model
        _, ids, mask = next(token_batches(tokenizer, X))
        inputs = {"input_ids": ids, "attention_mask": mask}
    return torch.inference_mode()(partial(module, **inputs))


def _way(way: str, model: Any, case: str) -> Callable[[Any], Any]:
    """Give what is to be measured, ready to run."""
    if isinstance(model, nn.Module):
        return _way_with_arrays(way, model)
    if way == "sentence-transformers":
        return _peers.sentence_transformer()
    module, tokenizer = model
    if case == WINDOWS:
        windows = TorchFeatureExtractor(
            module, preprocess=tokenizer, too_long="windows"
        )
        by_hand = partial(loop_over_windows, module, tokenizer)
        return windows.transform if way == OURS else by_hand
    ways = {
        OURS: TorchFeatureExtractor(module, preprocess=tokenizer).transform,
        "bare loop": partial(loop_over_texts, module, tokenizer),
        "unsorted loop": partial(loop_without_order, module, tokenizer),
    }
    return ways[way]


def _way_with_arrays(way: str, module: nn.Module) -> Callable[[Any], Any]:
    if way in PEERS:
        return PEERS[way](module, BATCH)
    extractor = TorchFeatureExtractor(module, batch_size=BATCH)
    folder, number = tempfile.TemporaryDirectory(), count()
    ways = {
        OURS: extractor.transform,
        TO_FILE: lambda X: extractor.transform_to_file(
            X, Path(folder.name) / f"{next(number)}.npy"
        ),
        "bare loop": lambda X: loop_over_rows(module, X, BATCH),
        "list and cat": lambda X: list_and_cat(module, X, BATCH),
    }
    return ways[way]


def _peak(run: Callable[[], Any]) -> tuple[int, Any]:
    """Give how far anonymous memory rose at its peak, and what `run` returned."""
    gc.collect()
    _trim()
    before = status("self")
    Path("/proc/self/clear_refs").write_text("5")  # the peak, VmHWM, starts again
    result = run()
    after = status("self")
    files = after["RssFile"] - before["RssFile"]
    return after["VmHWM"] - before["VmRSS"] - files, result


def _trim() -> None:
    """Give back what the allocator keeps for later."""
    ctypes.CDLL(None).malloc_trim(0)


def status(process: int | str) -> dict[str, int]:
    """Give the sizes that the kernel tells of a process, in bytes."""
    fields = map(str.split, Path(f"/proc/{process}/status").read_text().splitlines())
    return {field[0][:-1]: int(field[1]) * 1024 for field in fields if "kB" in field}


if __name__ == "__main__":
    _measure(*sys.argv[1:])
