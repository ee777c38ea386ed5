"""The bar, on standard error and only when asked for."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from sklearn_torch_bridge._packages import import_optional, is_installed

__all__ = ["Advance", "progress", "reporter", "silent"]


class Advance(Protocol):
    """A function that is called with rows that were just done, or known before."""

    def __call__(self, n_rows: int, *, known: bool = False) -> object:
        """Go on by `n_rows`."""


@contextmanager
def progress(
    n_samples: int, *, label: str, verbose: int, also: Advance
) -> Iterator[Advance]:
    """Yield a function to call with the number of rows just done, as `also` is called.

    A tqdm bar where tqdm is installed, one closing line elsewhere, nothing with
    ``verbose=0``.
    """
    if not verbose:
        yield also
    elif is_installed("tqdm"):
        tqdm = import_optional("tqdm.auto", purpose="`verbose`").tqdm
        with tqdm(total=n_samples, desc=label, unit="row", file=sys.stderr) as bar:
            yield _Bar(bar, also)
    else:
        began = time.perf_counter()
        yield also
        seconds = time.perf_counter() - began
        line = f"{label}: {n_samples} rows in {seconds:.1f} s"
        print(line, file=sys.stderr)  # noqa: T201 - asked for by `verbose`


def silent(n_rows: int, *, known: bool = False) -> None:
    """Show nothing."""


class _Bar:
    """Moves a bar of tqdm, and shows how many rows were known before."""

    def __init__(self, bar: Any, also: Advance) -> None:
        self._bar = bar
        self._also = also
        self._known = 0

    def __call__(self, n_rows: int, *, known: bool = False) -> None:
        if known:
            self._known += n_rows
            share = self._known / self._bar.total
            self._bar.set_postfix_str(f"{share:.0%} known", refresh=False)
        self._bar.update(n_rows)
        self._also(n_rows, known=known)


def reporter(*, label: str, verbose: int) -> Callable[[str], object]:
    """Return a function that reports what takes long, where `verbose` asks for it."""

    def report(line: str) -> None:
        if verbose and is_installed("tqdm"):  # above a bar that may be under way
            tqdm = import_optional("tqdm.auto", purpose="`verbose`").tqdm
            tqdm.write(f"{label}: {line}", file=sys.stderr)
        elif verbose:
            print(f"{label}: {line}", file=sys.stderr)  # noqa: T201 - asked for

    return report
