"""What the extractor takes beside the forward: a call, a batch, and each function."""

import cProfile
import pstats
from collections.abc import Callable, Iterator
from pathlib import Path

from _loops import loop_over_rows
from _measure import Timing, unit
from _models import mlp, rows

import sklearn_torch_bridge
from sklearn_torch_bridge import TorchFeatureExtractor

__all__ = ["costs", "profile"]

PACKAGE = Path(sklearn_torch_bridge.__file__).parent
BATCHES = 16
SHOWN = 40

Run = Callable[[], object]


def costs(timing: Timing) -> str:
    """Give what a call of one row and each further batch cost beyond the bare loop."""
    lines = ["| beyond the bare loop | time |", "|---|---:|"]
    small = mlp(64, 256)
    one = rows(1, 64)
    extractor = TorchFeatureExtractor(small)
    call = _beyond(
        timing,
        lambda: loop_over_rows(small, one, 1),
        lambda: extractor.transform(one),
    )
    lines.append(f"| a call with one row of 64 | {unit(call)} |")
    for size, model, width in ((32, small, 64), (256, mlp(), 128)):
        X = rows(size * BATCHES, width)
        extractor = TorchFeatureExtractor(model, batch_size=size)
        few, many = (
            _beyond(
                timing,
                lambda Y=Y, m=model, s=size: loop_over_rows(m, Y, s),
                lambda Y=Y, e=extractor: e.transform(Y),
            )
            for Y in (X[:size], X)
        )
        each = (many - few) / (BATCHES - 1)
        lines.append(f"| each batch of {size} rows of {width} | {each * 1e6:.1f} µs |")
    return "\n".join(lines) + "\n"


def _beyond(timing: Timing, bare: Run, ours: Run) -> float:
    """Give how much longer the fastest of many runs takes."""
    seconds = timing.interleave({"bare": bare, "ours": ours}, repeats=501)
    return min(seconds["ours"]) - min(seconds["bare"])


def profile(timing: Timing, title: str, run: Run, *, calls: int) -> str:
    """Show where the time of `run` goes: the package's functions, and what they call.

    Times are of one run without a profiler, divided as the profiler has found.
    """
    plain = timing.best(run, of=calls)
    profiler = cProfile.Profile(timing.clock)
    for _ in range(calls):
        profiler.runcall(run)
    stats = pstats.Stats(profiler)
    scale = plain / stats.total_tt * 1e6
    lines = [
        f"### {title}: {unit(plain)}\n",
        "| function | calls | own µs | with callees µs |",
        "|---|---:|---:|---:|",
    ]
    found = sorted(_ours(stats), key=lambda row: -row[3])[:SHOWN]
    lines += [
        f"| `{name}` | {count / calls:g} | {own * scale:.1f} | {within * scale:.1f} |"
        for name, count, own, within in found
    ]
    return "\n".join(lines) + "\n"


def _ours(stats: pstats.Stats) -> Iterator[tuple[str, int, float, float]]:
    """Yield name, calls and seconds of our functions, and of calls that they make."""
    for where, (_, count, own, within, callers) in stats.stats.items():
        if _is_ours(where):
            yield _name(where), count, own, within
        else:
            asked = [told for caller, told in callers.items() if _is_ours(caller)]
            if asked:
                _, counts, owns, withins = zip(*asked, strict=True)
                yield _name(where), sum(counts), sum(owns), sum(withins)


def _is_ours(where: tuple[str, int, str]) -> bool:
    return Path(where[0]).is_relative_to(PACKAGE)


def _name(where: tuple[str, int, str]) -> str:
    file, line, name = where
    if file == "~":
        return name
    path = Path(file)
    ours = _is_ours(where)
    shown = path.relative_to(PACKAGE) if ours else Path(*path.parts[-2:])
    return f"{shown}:{line} {name}"
