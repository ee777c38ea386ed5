"""Time and memory of the statistics on 50,000 rows of 768 features."""

import subprocess
import sys

import numpy as np
from _measure import interleave, machine, table
from scipy.linalg import svdvals

from sklearn_torch_bridge.stats import frechet_distance

__all__ = ["CALLS", "frechet_and_its_parts", "measure"]

N_SAMPLES, N_FEATURES = 50_000, 768
CALLS = {
    "frechet_distance": "stats.frechet_distance(X, Y)",
    "mahalanobis": "stats.mahalanobis(X, Y)",
    "mmd_test": "stats.mmd_test(X, Y, random_state=0)",
    "energy_test": "stats.energy_test(X, Y, random_state=0)",
    "ks_drift": "stats.ks_drift(X, Y)",
    "cka": "stats.cka(X, Y)",
    "cka, debiased": "stats.cka(X, Y, debiased=True)",
    "rsa": "stats.rsa(X, Y)",
    "effective_rank": "stats.effective_rank(X)",
    "cka, rbf": "stats.cka(X, Y, kernel='rbf')",
    "intrinsic_dimension": "stats.intrinsic_dimension(X)",
}
# A process of its own each, since a peak is that of a process. The first call, on a
# few rows, loads what has to be loaded.
CHILD = """
import resource, sys, time
import numpy as np
from sklearn_torch_bridge import stats

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def run(X, Y):
    return {call}

rng = np.random.default_rng(0)
run(*rng.normal(size=(2, 50, 4)))
X, Y = (rng.standard_normal({shape}, dtype="{dtype}") for _ in "XY")
before, began = peak(), time.perf_counter()
run(X, Y)
print(time.perf_counter() - began, peak() - before)
"""


def measure(
    call: str, *, n_samples: int = N_SAMPLES, dtype: str = "float32"
) -> tuple[float, float]:
    """Give the seconds, and the peak memory in bytes above that of the input."""
    code = CHILD.format(call=call, shape=(n_samples, N_FEATURES), dtype=dtype)
    run = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    seconds, peak_bytes = map(float, run.stdout.split())
    return seconds, peak_bytes


def frechet_and_its_parts(*, repeats: int) -> dict[str, list[float]]:
    """Time the distance beside two covariances and one singular value solve."""
    rng = np.random.default_rng(0)
    shape = (N_SAMPLES, N_FEATURES)
    X, Y = (rng.standard_normal(shape, dtype=np.float32) for _ in "XY")

    def covariance(Z):
        rows = Z.astype(np.float64)
        rows -= rows.mean(0)
        return rows.T @ rows / (len(rows) - 1)

    def parts():
        S, T = covariance(X), covariance(Y)
        return svdvals(S @ T)

    whole = {"its parts": parts, "frechet_distance": lambda: frechet_distance(X, Y)}
    return interleave(whole, repeats=repeats)


def main() -> None:
    print("## Statistics\n")
    print(f"On {N_SAMPLES:,} rows of {N_FEATURES} features in float32. {machine()}\n")
    print("| function | seconds | peak memory above the input |\n|---|---:|---:|")
    for name, call in CALLS.items():
        seconds, peak_bytes = measure(call)
        print(f"| {name} | {seconds:.3g} | {peak_bytes / 1e6:.0f} MB |", flush=True)
    print()
    print(table("two covariances and one SVD", frechet_and_its_parts(repeats=5)))


if __name__ == "__main__":
    main()
