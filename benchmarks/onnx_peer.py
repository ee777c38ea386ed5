"""The ONNX backend of sentence-transformers beside the bare loop.

It needs older releases of transformers than the other benchmarks, so `make bench-onnx`
gives it an environment of its own. What is compared with the extractor is its ratio to
the bare loop, which runs in both.
"""

import argparse
import logging
import shutil
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from _loops import MINILM, agreement, load_minilm, loop_over_texts
from _measure import Timing, machine, table
from _tweets import tweets
from sentence_transformers import SentenceTransformer

PACKAGES = ("sentence-transformers", "optimum-onnx", "onnxruntime")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="count one thread's CPU time: steadier where others use the machine",
    )
    one_thread = parser.parse_args().cpu_time
    options = onnxruntime.SessionOptions()
    if one_thread:
        torch.set_num_threads(1)
        options.intra_op_num_threads = 1
    clock = time.process_time if one_thread else time.perf_counter
    with tempfile.TemporaryDirectory() as folder:
        seconds = compare(Path(folder), options, Timing(clock))
    print("# Results with ONNX\n")
    print(f"{machine(*PACKAGES)}{' CPU time.' if one_thread else ''}\n")
    print(table("all-MiniLM-L6-v2, 300 tweets, batch 32", seconds))


def compare(
    folder: Path, options: onnxruntime.SessionOptions, timing: Timing
) -> dict[str, list[float]]:
    """Time both, when their results are equal; `folder` is for the exported model."""
    for name in ("optimum", "sentence_transformers", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # The export holds shapes of one example where transformers means them as constants.
    warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
    copied = shutil.copytree(MINILM, folder / "model")  # the export is put beside it
    exported = SentenceTransformer(
        str(copied),
        device="cpu",
        backend="onnx",
        model_kwargs={
            "provider": "CPUExecutionProvider",
            "session_options": options,
            "export": True,
        },
    )
    model, tokenizer = load_minilm()
    texts = tweets(300)
    ways = {
        "bare loop": lambda: loop_over_texts(model, tokenizer, texts),
        "sentence-transformers, ONNX": lambda: exported.encode(
            texts, batch_size=32, show_progress_bar=False
        ),
    }
    _, difference = agreement(*(way() for way in ways.values()))
    np.testing.assert_array_less(difference, 1e-5)
    return timing.interleave(ways, repeats=7)


if __name__ == "__main__":
    main()
