"""What the first import costs, beside the imports that every user has anyway.

Each import runs in a new interpreter. The clock is the processor's time of these, which
leaves out what others do to the machine; the ways take turns. Takes about two minutes.
"""

import os
import subprocess
import sys

from _measure import Timing, machine, table

ROUNDS = 11
OURS = "import sklearn_torch_bridge"
WAYS = {
    "torch, sklearn.base, sklearn.pipeline": (
        "import torch, sklearn.base, sklearn.pipeline"
    ),
    "sklearn_torch_bridge": OURS,
    "and all that it loads when asked": f"{OURS}; from sklearn_torch_bridge import *",
}
LISTED = "; import sys; print(*sys.modules)"


def run(code: str) -> str:
    """Run code in a new interpreter, and return what it prints."""
    return subprocess.run(  # noqa: S603 - code of this file
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout


def seconds_of_children() -> float:
    """Return the processor's time that ended child processes have taken."""
    times = os.times()
    return times.children_user + times.children_system


def main() -> None:
    print("## Import\n")
    print(f"{machine()}\n")
    loaded = {name: run(code + LISTED).split() for name, code in WAYS.items()}
    ways = {name: lambda code=code: run(code) for name, code in WAYS.items()}
    print(
        table(
            "import",
            Timing(clock=seconds_of_children).interleave(ways, repeats=ROUNDS),
            {"modules": {name: f"{len(found):,}" for name, found in loaded.items()}},
        )
    )


if __name__ == "__main__":
    main()
