"""Whether the indices of SciPy's sparse containers stay inside of their arrays.

SciPy follows them without a look: an index out of range reads or writes memory that
belongs to others, and may end the process.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["check_indices"]

_AXES = {"csr": (0, 1), "csc": (1, 0), "bsr": (0, 1)}  # of pointers, of indices


def check_indices(matrix: Any) -> None:
    """Refuse a sparse container with indices out of range, or arrays that do not fit.

    SciPy's own `check_format` changes the container, skips some formats, and looks at
    no pointers where the last of them is 0.
    """
    fault = next(_FAULTS[matrix.format](matrix), None)
    if fault:
        msg = (
            f"a sparse container ({matrix.format}) has invalid indices: {fault}. "
            "Build it anew, from values with their rows and columns."
        )
        raise ValueError(msg)


def _compressed_faults(matrix: Any) -> Iterator[str]:
    shape = (1, *matrix.shape)[-2:]  # of one axis: a single row
    major, minor = (shape[axis] for axis in _AXES[matrix.format])
    data, along, pointers = matrix.data, matrix.indices, matrix.indptr
    if matrix.format == "bsr":
        if data.ndim != 3 or 0 in data.shape[1:]:  # noqa: PLR2004 - blocks, rows, columns
            yield f"its blocks have the shape {data.shape}"
        major, minor = major // data.shape[1], minor // data.shape[2]
    elif data.ndim != 1:
        yield f"its values have the shape {data.shape}"
    for name, array in (("indices", along), ("indptr", pointers)):
        if array.ndim != 1 or array.dtype.kind not in "iu":
            yield f"its {name} are of dtype {array.dtype} and shape {array.shape}"
    if len(pointers) != major + 1 or pointers[0] != 0:
        yield f"indptr must begin with 0 and have {major + 1} entries"
    falls = np.flatnonzero(pointers[1:] < pointers[:-1])
    if len(falls):
        yield f"indptr falls after entry {falls[0]}"
    stop = int(pointers[-1])
    if stop > min(len(along), len(data)):
        yield f"indptr ends with {stop}, and there are {min(len(along), len(data))}"
    for place, index in _out_of_range(along[:stop], minor):
        axis = ("row", "column")[_AXES[matrix.format][1]]
        other = np.searchsorted(pointers, place, side="right") - 1
        where = f"{'row' if axis == 'column' else 'column'} {other}"
        yield f"{where} has the {axis} {index}, of {minor}"


def _coo_faults(matrix: Any) -> Iterator[str]:
    coords = getattr(matrix, "coords", None) or (matrix.row, matrix.col)
    lengths = {len(one) for one in (*coords, matrix.data)}
    if len(lengths) > 1 or len(coords) != len(matrix.shape):
        yield f"its arrays have {len(coords)} axes and the lengths {sorted(lengths)}"
    for axis, (index, size) in enumerate(zip(coords, matrix.shape, strict=True)):
        if index.ndim != 1 or index.dtype.kind not in "iu":
            yield f"those of axis {axis} are of dtype {index.dtype}"
        for place, found in _out_of_range(index, size):
            yield f"entry {place} has {found} on axis {axis}, of {size}"


def _dia_faults(matrix: Any) -> Iterator[str]:
    offsets, data = matrix.offsets, matrix.data
    if offsets.ndim != 1 or offsets.dtype.kind not in "iu":
        yield f"its offsets are of dtype {offsets.dtype} and shape {offsets.shape}"
    if data.ndim != 2 or len(data) != len(offsets):  # noqa: PLR2004 - diagonals, values
        yield f"{len(offsets)} offsets have diagonals of shape {data.shape}"
    if len(np.unique(offsets)) < len(offsets):
        yield "an offset is there twice"


def _lil_faults(matrix: Any) -> Iterator[str]:
    n_rows, n_columns = matrix.shape
    if len(matrix.rows) != n_rows or len(matrix.data) != n_rows:
        yield f"{n_rows} rows have lists for {len(matrix.rows)}"
    for row, (columns, values) in enumerate(
        zip(matrix.rows, matrix.data, strict=False)
    ):
        if len(columns) != len(values):
            yield f"row {row} has {len(columns)} columns and {len(values)} values"
        for _, column in _out_of_range(np.asarray(columns), n_columns):
            yield f"row {row} has the column {column}, of {n_columns}"
        for before, column in pairwise(columns):
            if column <= before:
                yield f"row {row} has the column {column} after {before}"


def _dok_faults(matrix: Any) -> Iterator[str]:
    for key in matrix.keys():  # noqa: SIM118 - a matrix iterates over its rows
        places = key if isinstance(key, tuple) else (key,)
        inside = (0 <= at < size for at, size in zip(places, matrix.shape, strict=True))
        if not all(inside):
            yield f"the key {key} is not in the shape {matrix.shape}"


def _out_of_range(indices: NDArray[Any], size: int) -> Iterator[tuple[int, int]]:
    """Yield the first index that is out of range, and its place."""
    if len(indices) and (indices.min() < 0 or indices.max() >= size):
        place = int(np.argmax((indices < 0) | (indices >= size)))
        yield place, int(indices[place])


_FAULTS = {
    **dict.fromkeys(_AXES, _compressed_faults),
    "coo": _coo_faults,
    "dia": _dia_faults,
    "lil": _lil_faults,
    "dok": _dok_faults,
}
