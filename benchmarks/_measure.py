"""Time functions side by side in one run, and show the ratios as Markdown."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version

import torch

__all__ = ["interleave", "machine", "table"]


def interleave(
    candidates: Mapping[str, Callable[[], object]], *, repeats: int
) -> dict[str, list[float]]:
    """Time each candidate once a round, after a round that does not count.

    A machine that slows down for a while slows down all candidates of those rounds,
    so compare candidates round by round, not their sums.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats + 1):
        for name, run in candidates.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    return {name: taken[1:] for name, taken in seconds.items()}


def table(title: str, seconds: Mapping[str, list[float]]) -> str:
    """Give a Markdown table: medians, and the median ratio to the first candidate."""
    baseline = next(iter(seconds))
    lines = [
        f"| {title} | median | ÷ {baseline} | lowest to highest |",
        "|---|---:|---:|---:|",
    ]
    for name, taken in seconds.items():
        base = seconds[baseline]
        ratios = [own / other for own, other in zip(taken, base, strict=True)]
        lines.append(
            f"| {name} | {_unit(statistics.median(taken))} "
            f"| {statistics.median(ratios):.2f} "
            f"| {min(ratios):.2f} to {max(ratios):.2f} |"
        )
    return "\n".join(lines) + "\n"


def machine() -> str:
    """Say what was measured on what."""
    packages = ("torch", "numpy", "scikit-learn", "scipy", "transformers")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} "
        f"torch threads, {platform.python_implementation()} "
        f"{platform.python_version()}, "
        f"{versions}."
    )


def _unit(seconds: float) -> str:
    units = {"s": 1, "ms": 1e-3, "µs": 1e-6}
    unit = next((name for name, size in units.items() if seconds >= size), "µs")
    return f"{seconds / units[unit]:.3g} {unit}"
