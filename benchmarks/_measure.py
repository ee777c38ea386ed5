"""Time functions side by side in one run, and show the ratios as Markdown."""

import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version

import torch

__all__ = ["Timing", "interleave", "machine", "table", "unit"]


@dataclass(frozen=True)
class Timing:
    """How to time: by which clock, and after how many seconds no round begins.

    With one thread, `time.process_time` leaves out what others do to the machine.
    """

    clock: Callable[[], float] = time.perf_counter
    limit: float = math.inf

    def interleave(
        self, candidates: Mapping[str, Callable[[], object]], *, repeats: int
    ) -> dict[str, list[float]]:
        """Time each candidate once a round, after a round that does not count.

        A machine that slows down for a while slows down all candidates of those
        rounds, so compare candidates round by round, not their sums.
        """
        seconds: dict[str, list[float]] = {name: [] for name in candidates}
        end = time.perf_counter() + self.limit
        for done in range(repeats + 1):
            if done > 1 and time.perf_counter() > end:
                break
            for name, run in candidates.items():
                seconds[name].append(self._seconds(run))
        return {name: taken[1:] for name, taken in seconds.items()}

    def best(self, run: Callable[[], object], *, of: int) -> float:
        """Give the time of the fastest of many runs."""
        return min(self._seconds(run) for _ in range(of))

    def _seconds(self, run: Callable[[], object]) -> float:
        began = self.clock()
        run()
        return self.clock() - began


interleave = Timing().interleave


def table(
    title: str,
    seconds: Mapping[str, list[float]],
    more: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    """Give a Markdown table: medians, and the median ratio to the first candidate.

    `more` has further columns: for each heading the entries by candidate.
    """
    baseline = next(iter(seconds))
    columns = more or {}
    heads = [title, "median", f"÷ {baseline}", "lowest to highest", *columns]
    lines = [_row(heads), "|---|" + "---:|" * (len(heads) - 1)]
    for name, taken in seconds.items():
        base = seconds[baseline]
        ratios = [own / other for own, other in zip(taken, base, strict=True)]
        own_cells = [
            name,
            unit(statistics.median(taken)),
            f"{statistics.median(ratios):.2f}",
            f"{min(ratios):.2f} to {max(ratios):.2f}",
        ]
        cells = [column.get(name, "") for column in columns.values()]
        lines.append(_row([*own_cells, *cells]))
    return "\n".join(lines) + "\n"


def machine(*more: str) -> str:
    """Say what was measured on what; `more` names further packages."""
    packages = ("torch", "numpy", "scikit-learn", "scipy", "transformers", *more)
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} "
        f"torch threads, {platform.python_implementation()} "
        f"{platform.python_version()}, "
        f"{versions}."
    )


def unit(seconds: float) -> str:
    """Write a time in the unit that suits it."""
    units = {"s": 1, "ms": 1e-3, "µs": 1e-6}
    chosen = next((name for name, size in units.items() if seconds >= size), "µs")
    return f"{seconds / units[chosen]:.3g} {chosen}"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
