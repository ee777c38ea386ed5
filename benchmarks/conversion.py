"""What `to_numpy` costs beside the chains that people write instead.

The ways of one case take turns, so that a busy moment hits all of them; medians are
reported, and the peak of memory beyond the input from one more run of each in a fork.
Takes about a minute.
"""

import os
import resource
import statistics
import timeit
import warnings
from collections.abc import Callable

import numpy as np
import torch
from _measure import interleave, machine

from sklearn_torch_bridge import to_numpy

N_ROWS, N_FEATURES, BATCH = 20_000, 1024, 128
ROUNDS, LISTED = 7, 2_000

Ways = dict[str, Callable[[], object]]


def points() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(N_ROWS, N_FEATURES, generator=generator)


def contiguous() -> Ways:
    t = points()
    return {
        "to_numpy(t)": lambda: to_numpy(t),
        "np.array(t)": lambda: np.array(t),
        "t.clone().numpy()": lambda: t.clone().numpy(),
        "to_numpy(t, copy=None)": lambda: to_numpy(t, copy=None),
    }


def half(dtype: torch.dtype) -> Callable[[], Ways]:
    def ways() -> Ways:
        t = points().to(dtype)
        return {"to_numpy(t)": lambda: to_numpy(t), ".float().numpy()": float_numpy(t)}

    return ways


def float_numpy(t: torch.Tensor) -> Callable[[], object]:
    return lambda: t.float().numpy()


def strided() -> Ways:
    t = points().bfloat16()[:, ::2]
    return {
        "to_numpy(t)": lambda: to_numpy(t),
        ".contiguous().float().numpy()": lambda: t.contiguous().float().numpy(),
        ".float().numpy()": float_numpy(t),
    }


def transposed() -> Ways:
    t = points().T
    return {
        "to_numpy(t)": lambda: to_numpy(t),
        ".contiguous().float().numpy()": lambda: t.contiguous().float().numpy(),
        "np.ascontiguousarray(t)": lambda: np.ascontiguousarray(t),
    }


def narrowed() -> Ways:
    t = points().double()
    return {
        "to_numpy(t, dtype='float32'), checked": lambda: to_numpy(t, dtype="float32"),
        ".float().numpy(), unchecked": float_numpy(t),
        ".numpy().astype('float32'), a warning": lambda: t.numpy().astype("float32"),
    }


def batches(dtype: torch.dtype) -> Callable[[], Ways]:
    def ways() -> Ways:
        parts = [part.clone() for part in points().to(dtype).split(BATCH)]
        return {
            "to_numpy(batches)": lambda: to_numpy(parts),
            "torch.cat(batches).float().numpy()": lambda: (
                torch.cat(parts).float().numpy()
            ),
            "np.concatenate([...])": lambda: np.concatenate(
                [part.float().numpy() for part in parts]
            ),
        }

    return ways


def rows() -> Ways:
    parts = [row.clone() for row in points()[:LISTED]]
    return {
        "to_numpy(rows)": lambda: to_numpy(parts),
        "np.asarray(rows)": lambda: np.asarray(parts),
        "torch.stack(rows).numpy()": lambda: torch.stack(parts).numpy(),
    }


CASES: dict[str, Callable[[], Ways]] = {
    "float32, contiguous, 80 MB": contiguous,
    "bfloat16 to float32, 80 MB": half(torch.bfloat16),
    "float16 to float32, 80 MB": half(torch.float16),
    "bfloat16, every second column, 40 MB": strided,
    "float32, transposed, 80 MB": transposed,
    "float64 to float32, 80 MB": narrowed,
    "157 float32 batches, 80 MB": batches(torch.float32),
    "157 bfloat16 batches, 80 MB": batches(torch.bfloat16),
    "2,000 float32 rows, 8 MB": rows,
}


def peak_bytes(way: Callable[[], object]) -> int:
    """Measure, in a fork, how far the peak of memory rises above the present."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)  # a fork has none of its parent's threads
        before = resident_peak_bytes()
        way()
        os.write(write, str(resident_peak_bytes() - before).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with os.fdopen(read) as told:
        return int(told.read())


def resident_peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def small_calls() -> dict[str, float]:
    """Time single calls on small tensors, in microseconds: the least of many runs."""
    t = torch.randn(32, 64)
    half_t, weight = t.bfloat16(), torch.nn.Parameter(t)
    ways: Ways = {
        "to_numpy(t)": lambda: to_numpy(t),
        "to_numpy(bfloat16)": lambda: to_numpy(half_t),
        "to_numpy(parameter)": lambda: to_numpy(weight),
        "np.array(t)": lambda: np.array(t),
        "t.detach().cpu().float().numpy()": lambda: t.detach().cpu().float().numpy(),
    }
    return {
        name: min(timeit.repeat(way, number=100, repeat=100)) / 100 * 1e6
        for name, way in ways.items()
    }


def main() -> None:
    print("## Conversion\n")
    print(f"{machine()}\n")
    print("| case | way | median ms | to ours | peak MB beyond the input |")
    print("|---|---|---:|---:|---:|")
    for case, make in CASES.items():
        ways = make()
        seconds = {
            name: statistics.median(taken)
            for name, taken in interleave(ways, repeats=ROUNDS).items()
        }
        ours = next(iter(seconds.values()))
        for name, taken in seconds.items():
            peak = peak_bytes(ways[name]) / 1e6
            print(
                f"| {case} | `{name}` | {taken * 1e3:.2f} | {taken / ours:.2f}x "
                f"| {peak:.0f} |"
            )
    print("\n| one call on (32, 64) | microseconds |")
    print("|---|---:|")
    for name, microseconds in small_calls().items():
        print(f"| `{name}` | {microseconds:.1f} |")
    print()


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # NumPy's, about how torch lends its memory
    main()
