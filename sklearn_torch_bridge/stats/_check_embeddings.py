"""Check embeddings of any type, and read them in blocks of float64."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_array

from sklearn_torch_bridge._checks import check_positive_int
from sklearn_torch_bridge._convert import to_numpy

__all__ = [
    "Doubles",
    "Floats",
    "block_rows",
    "check_columns",
    "check_embeddings",
    "check_paired",
    "check_varies",
    "iter_blocks",
    "make_generator",
    "sample_rows",
]

Floats = NDArray[np.floating[Any]]
"""Checked rows, in float32 or float64 as they were given."""

Doubles = NDArray[np.float64]

_BLOCK_BYTES = 2**25
_FEWEST = 10  # rows of a sample
_LARGEST = 1e70  # float64 can hold the sum of 1e27 fourth powers of it


def check_embeddings(
    name: str, value: Any, *, min_rows: int, is_squared: bool = True
) -> Floats:
    """Return `value` as a finite float32 or float64 matrix, copied only if needed."""
    # scikit-learn converts frames, also those with extension dtypes.
    dense = value if hasattr(value, "columns") else to_numpy(value, copy=None)
    Z: Floats = check_array(
        dense, dtype=[np.float64, np.float32], input_name=name, ensure_min_samples=0
    )
    if len(Z) < min_rows:
        msg = f"`{name}` must have at least {min_rows} rows, got {len(Z)}."
        raise ValueError(msg)
    if is_squared and Z.dtype == np.float64:  # float32 has no values that large
        largest = max(float(Z.max()), -float(Z.min()))
        if largest > _LARGEST or 0 < largest < 1 / _LARGEST:
            msg = (
                f"`{name}` must have a largest value between {1 / _LARGEST:.0e} and "
                f"{_LARGEST:.0e} in size, since it is squared twice in float64, got "
                f"{largest:.3g}. Divide all rows by it first."
            )
            raise ValueError(msg)
    return Z


def check_columns(
    X: Any,
    Y: Any,
    *,
    names: tuple[str, str] = ("X", "Y"),
    min_rows: tuple[int, int],
    is_squared: bool = True,
) -> tuple[Floats, Floats]:
    """Check two sets of rows that must have the same columns."""
    first, second = (
        check_embeddings(name, Z, min_rows=fewest, is_squared=is_squared)
        for name, Z, fewest in zip(names, (X, Y), min_rows, strict=True)
    )
    if first.shape[1] != second.shape[1]:
        msg = (
            f"`{names[0]}` and `{names[1]}` must have the same columns, got "
            f"{first.shape[1]} and {second.shape[1]} of them."
        )
        raise ValueError(msg)
    labels = [list(frame.columns) for frame in (X, Y) if hasattr(frame, "columns")]
    if len(labels) == len(names) and labels[0] != labels[1]:
        msg = (
            f"`{names[0]}` and `{names[1]}` must have the same columns in the same "
            f"order. Take {names[1]}[{names[0]}.columns]."
        )
        raise ValueError(msg)
    return first, second


def check_paired(X: Any, Y: Any, *, min_rows: int) -> tuple[Floats, Floats]:
    """Check two embeddings of the same rows; neither may be constant."""
    first = check_embeddings("X", X, min_rows=min_rows)
    second = check_embeddings("Y", Y, min_rows=min_rows)
    if len(first) != len(second):
        msg = (
            "`X` and `Y` must be embeddings of the same rows, got "
            f"{len(first)} and {len(second)} rows."
        )
        raise ValueError(msg)
    check_varies("X", first)
    check_varies("Y", second)
    return first, second


def check_varies(name: str, Z: Floats) -> None:
    """Refuse rows that are all equal."""
    if not any(block.any() for block in iter_blocks(Z, center=Z[0])):
        msg = f"`{name}` must have rows that differ; all {len(Z)} are equal."
        raise ValueError(msg)


def block_rows(Z: Floats) -> int:
    """Compute how many rows in float64 take 32 MB."""
    return max(1, _BLOCK_BYTES // (8 * int(Z.shape[1])))


def iter_blocks(
    Z: Floats, *, center: Floats | float = 0.0, rows: int | None = None
) -> Iterator[Doubles]:
    """Yield the rows minus `center`, in new contiguous blocks of float64."""
    step = rows or block_rows(Z)
    for start in range(0, len(Z), step):
        yield np.subtract(Z[start : start + step], center, dtype=np.float64, order="C")


def make_generator(random_state: Any) -> np.random.Generator:
    """Convert a random state of scikit-learn or NumPy to a generator."""
    if isinstance(random_state, np.random.RandomState):  # NumPy 2.0 refuses it
        return np.random.default_rng(random_state.randint(2**31))
    return np.random.default_rng(random_state)


def sample_rows(
    n_samples: int, max_rows: int | None, generator: np.random.Generator
) -> NDArray[np.intp] | slice:
    """Draw `max_rows` rows without replacement; all if there are no more."""
    if max_rows is not None and check_positive_int("max_rows", max_rows) < _FEWEST:
        msg = f"`max_rows` must be at least {_FEWEST} or None, got {max_rows}."
        raise ValueError(msg)
    if max_rows is None or n_samples <= max_rows:
        return slice(None)
    return np.sort(generator.choice(n_samples, max_rows, replace=False))
