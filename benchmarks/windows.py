"""What long documents in windows cost beside the best loop one would write by hand.

200 documents of 2,000 tokens go through all-MiniLM-L6-v2, all of each. Both ways take
turns in one run, sort windows by length and give equal vectors, which is checked first.
"""

import argparse
import time

import torch
from _loops import agreement, load_minilm, loop_over_windows
from _measure import Timing, machine, table
from _memory import WINDOWS, growth
from _tweets import documents

from sklearn_torch_bridge import TorchFeatureExtractor

OURS, BY_HAND = "TorchFeatureExtractor", "loop over windows"
EQUAL = 1e-5


def times(n_documents: int, repeats: int) -> str:
    """Compare the time of windows, and that of what is cut."""
    model, tokenizer = load_minilm()
    texts = documents(n_documents, 2_000, tokenizer)
    extractor = TorchFeatureExtractor(model, preprocess=tokenizer, too_long="windows")
    cut = TorchFeatureExtractor(model, preprocess=tokenizer, too_long="cut")
    by_hand = loop_over_windows(model, tokenizer, texts)
    _, difference = agreement(extractor.transform(texts), by_hand)
    if not difference <= EQUAL:
        msg = f"the two ways differ by {difference:.2g}."
        raise AssertionError(msg)
    candidates = {
        BY_HAND: lambda: loop_over_windows(model, tokenizer, texts),
        OURS: lambda: extractor.transform(texts),
        "cut at the maximum": lambda: cut.transform(texts),
    }
    title = f"{n_documents} documents of 2,000 tokens, windows of 512"
    timing = Timing(time.process_time)  # of one thread
    return table(title, timing.interleave(candidates, repeats=repeats))


def memory() -> str:
    """Compare the peak of memory with what it had to hold at least."""
    lines = ["| way | peak | ÷ (result + one batch's forward) |", "|---|---:|---:|"]
    for way in (OURS, BY_HAND):
        grown = growth(WINDOWS, way)
        least = grown.result + grown.forward
        lines.append(
            f"| {way} | {grown.peak / 2**20:.0f} MiB | {grown.peak / least:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print("## Windows of long documents\n")
    print(f"{machine()}\n")
    print(times(asked.documents, asked.repeats))
    print(memory())


if __name__ == "__main__":
    main()
