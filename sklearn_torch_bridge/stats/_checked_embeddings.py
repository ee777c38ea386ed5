"""Embeddings as they come, checked, and read in blocks of float64."""

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
"""Checked rows, in float32 or float64 as they came."""

Doubles = NDArray[np.float64]

_BLOCK_BYTES = 2**25
_FEWEST_SAMPLED = 10
_LARGEST = 1e70  # whose fourth power has room in float64 for 1e27 of its like


def check_embeddings(
    name: str, value: Any, *, min_rows: int, is_squared: bool = True
) -> Floats:
    """Give `value` as a finite matrix of float32 or float64, copied only if needed."""
    # scikit-learn reads frames, also those with dtypes of their own.
    dense = value if hasattr(value, "columns") else to_numpy(value, copy=None)
    Z: Floats = check_array(
        dense, dtype=[np.float64, np.float32], input_name=name, ensure_min_samples=0
    )
    if len(Z) < min_rows:
        msg = f"`{name}` must have at least {min_rows} rows, got {len(Z)}."
        raise ValueError(msg)
    if is_squared and Z.dtype == np.float64:  # float32 holds nothing as large
        _check_sizes(name, Z)
    return Z


def _check_sizes(name: str, Z: Floats) -> None:
    """Refuse values whose squares, squared, would be infinite or nothing."""
    largest = max(float(Z.max()), -float(Z.min()))
    if largest > _LARGEST or 0 < largest < 1 / _LARGEST:
        msg = (
            f"`{name}` must have a largest value between {1 / _LARGEST:.0e} and "
            f"{_LARGEST:.0e} in size, since it is squared twice in float64, got "
            f"{largest:.3g}. Divide all rows by it first."
        )
        raise ValueError(msg)


def check_columns(
    X: Any,
    Y: Any,
    *,
    names: tuple[str, str] = ("X", "Y"),
    min_rows: tuple[int, int],
    is_squared: bool = True,
) -> tuple[Floats, Floats]:
    """Check two sets of rows over the same columns."""
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
    """Check two embeddings of the same rows, neither of them constant."""
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
    rows = block_rows(Z)
    blocks = (Z[start : start + rows] for start in range(0, len(Z), rows))
    if not any(bool((block != Z[0]).any()) for block in blocks):
        msg = f"`{name}` must have rows that differ; all {len(Z)} are equal."
        raise ValueError(msg)


def block_rows(Z: Floats) -> int:
    """Count the rows of which a block in float64 takes 32 MB."""
    n_features: int = Z.shape[1]
    return max(1, _BLOCK_BYTES // (8 * n_features))


def iter_blocks(
    Z: Floats, *, center: Doubles | float = 0.0, rows: int | None = None
) -> Iterator[Doubles]:
    """Give the rows less `center`, in new contiguous blocks of float64."""
    step = rows or block_rows(Z)
    for start in range(0, len(Z), step):
        yield np.subtract(Z[start : start + step], center, dtype=np.float64, order="C")


def make_generator(random_state: Any) -> np.random.Generator:
    """Make a generator of what scikit-learn or NumPy call a random state."""
    if isinstance(random_state, np.random.RandomState):  # NumPy 2.0 refuses it
        return np.random.default_rng(random_state.randint(2**31))
    return np.random.default_rng(random_state)


def sample_rows(
    n_samples: int, max_rows: int | None, generator: np.random.Generator
) -> NDArray[np.intp] | slice:
    """Choose rows without replacement where there are more than `max_rows`."""
    if max_rows is None:
        return slice(None)
    if check_positive_int("max_rows", max_rows) < _FEWEST_SAMPLED:
        msg = f"`max_rows` must be at least {_FEWEST_SAMPLED} or None, got {max_rows}."
        raise ValueError(msg)
    if n_samples <= max_rows:
        return slice(None)
    return np.sort(generator.choice(n_samples, max_rows, replace=False))
