"""Convert rows to bytes with a checksum, and back."""

import functools
import re
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "checksum_of",
    "cut_rows",
    "is_intact",
    "layout_of",
    "noted",
    "row_bytes",
    "to_array",
    "without_note",
]

# The names hold the byte order: rows from a machine of the other order are misses.
_DTYPES = {
    np.dtype(name).str: np.dtype(name)
    for name in [
        *("bool", "int8", "int16", "int32", "int64"),
        *("uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64", "complex64", "complex128"),
    ]
}
_LAYOUT = re.compile(r"([<>|][a-z][0-9]{1,2})\[((?:[0-9]{1,9},){0,32})\]")
_NOTE = "~"  # between the layout of a row and what its maker notes of it


def layout_of(dtype: np.dtype[Any], shape: tuple[int, ...]) -> str:
    """Return the stored name of the dtype and shape of a row.

    >>> layout_of(np.dtype("float32"), (384,))
    '<f4[384,]'
    """
    if dtype.str not in _DTYPES:
        known = ", ".join(known.name for known in _DTYPES.values())
        msg = f"Cached rows must have one of the dtypes {known}, got {dtype}."
        raise TypeError(msg)
    return f"{dtype.str}[{''.join(f'{size},' for size in shape)}]"


def noted(layout: str, note: str) -> str:
    """Return the stored name of a layout with a note on the row.

    >>> noted("<f4[384,]", "612/256"), noted("<f4[384,]", "")
    ('<f4[384,]~612/256', '<f4[384,]')
    """
    return f"{layout}{_NOTE}{note}" if note else layout


def without_note(stored: str) -> tuple[str, str]:
    """Return a layout, and the note behind it.

    >>> without_note("<f4[384,]~612/256"), without_note("<f4[384,]")
    (('<f4[384,]', '612/256'), ('<f4[384,]', ''))
    """
    layout, _, note = stored.partition(_NOTE)
    return layout, note


def row_bytes(vectors: NDArray[Any]) -> memoryview:
    """Return the memory of C-contiguous `vectors`."""
    return vectors.reshape(-1).view(np.uint8).data


def cut_rows(vectors: NDArray[Any], n_samples: int) -> Iterator[memoryview]:
    """Yield the memory of each row of C-contiguous `vectors`."""
    whole = row_bytes(vectors)
    n_bytes = len(whole) // n_samples
    for row in range(n_samples):
        yield whole[row * n_bytes : (row + 1) * n_bytes]


def checksum_of(key: bytes, layout: str, data: bytes | memoryview) -> int:
    """Compute one checksum of a row with its key and layout."""
    return zlib.crc32(data, zlib.crc32(key, zlib.crc32(layout.encode())))


def is_intact(key: bytes, layout: Any, checksum: Any, data: Any) -> bool:
    """Return whether a stored row is what was put there, whatever types it has now."""
    is_typed = type(layout) is str and type(data) is bytes
    return is_typed and checksum == checksum_of(key, layout, data)


def to_array(layout: str, data: bytes) -> NDArray[Any] | None:
    """Return the row in `data`, read-only; None where `layout` does not fit it."""
    dtype, shape = _read_layout(layout)
    if dtype is None:
        return None
    try:
        return np.frombuffer(data, dtype).reshape(shape)
    except ValueError:  # the sizes do not agree
        return None


@functools.lru_cache
def _read_layout(layout: str) -> tuple[np.dtype[Any] | None, tuple[int, ...]]:
    match = _LAYOUT.fullmatch(layout)
    if match is None:
        return None, ()
    shape = tuple(int(size) for size in match[2].split(",")[:-1])
    return _DTYPES.get(match[1]), shape
