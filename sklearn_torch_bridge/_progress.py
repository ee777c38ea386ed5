"""The bar, on standard error and only when asked for."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sklearn_torch_bridge._optional import import_optional, is_installed

__all__ = ["progress"]


@contextmanager
def progress(
    n_samples: int, *, label: str, verbose: int
) -> Iterator[Callable[[int], object]]:
    """Give a function to call with the number of rows just done.

    A tqdm bar where tqdm is installed, one closing line elsewhere, nothing with
    ``verbose=0``.
    """
    if not verbose:
        yield lambda _: None
    elif is_installed("tqdm"):
        tqdm = import_optional("tqdm.auto", purpose="`verbose`").tqdm
        with tqdm(total=n_samples, desc=label, unit="row", file=sys.stderr) as bar:
            yield bar.update
    else:
        began = time.perf_counter()
        yield lambda _: None
        seconds = time.perf_counter() - began
        line = f"{label}: {n_samples} rows in {seconds:.1f} s"
        print(line, file=sys.stderr)  # noqa: T201 - asked for by `verbose`
