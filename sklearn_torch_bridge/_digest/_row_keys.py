"""One key a row: what a row holds decides, never where it stands."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse

from sklearn_torch_bridge._convert import plain
from sklearn_torch_bridge._digest._array_bytes import array_bytes, dtype_name
from sklearn_torch_bridge._digest._encoder import ATOMS
from sklearn_torch_bridge._digest._values import digest
from sklearn_torch_bridge._errors import FingerprintError
from sklearn_torch_bridge._tensor_bytes import with_bytes

__all__ = ["row_keys", "rows_digest"]

_KEY_BYTES = 16
_CHUNK_BYTES = 4 << 20  # of strided, memory-mapped or device memory, copied at once
_ADVICE = (
    "With `cache`, rows must be arrays, tensors, str, bytes, numbers, images, paths, "
    "or lists, tuples and dicts of these."
)
_ARRAYS = (np.ndarray, np.memmap)
_ORIENTATION = 0x0112  # of Exif: which side of an image is up

_Update: TypeAlias = Callable[[Any], None]


def row_keys(rows: Any, fingerprint: bytes) -> list[bytes]:
    """Give 16 bytes for each row, which no other row has under this fingerprint.

    `rows` is an array or a tensor, whose first axis it is, or a sequence: of str,
    arrays and tensors of any shapes, bytes, numbers, None, images of Pillow, paths
    (the file's content counts, not its name), lists, tuples and dicts of these, and
    objects that `digest` can identify. A tensor or a sparse matrix has the keys of the
    equal array.

    Raises `FingerprintError`, a `TypeError`, for a row that nothing can identify.

    >>> ones, mixed = row_keys(np.ones((2, 3)), b"f"), row_keys([None, "1", 1], b"f")
    >>> ones[0] == ones[1], len(set(mixed))
    (True, 3)
    """
    return list(_iter_keys(rows, fingerprint))


def rows_digest(rows: Any, fingerprint: bytes = b"") -> bytes:
    """Sum up all rows, in their order, in 32 bytes."""
    whole = hashlib.blake2b(digest_size=32, key=fingerprint)
    for key in _iter_keys(rows, fingerprint):
        whole.update(key)
    return whole.digest()


def _iter_keys(rows: Any, fingerprint: bytes) -> Iterator[bytes]:
    """Choose how the rows are hashed by what they are."""
    start = hashlib.blake2b(digest_size=_KEY_BYTES, key=fingerprint)
    if isinstance(rows, (np.ndarray, torch.Tensor)) and not rows.ndim:
        msg = "`X` must have rows, got an array without axes."
        raise TypeError(msg)
    if isinstance(rows, torch.Tensor):
        return _tensor_keys(rows, start)
    if issparse(rows):
        return _sparse_keys(rows, start)
    if type(rows) in _ARRAYS and not (rows.dtype.hasobject or rows.dtype.kind == "U"):
        return _array_keys(rows, start)
    whole = isinstance(rows, (str, bytes, set, frozenset, Mapping)) or hasattr(
        rows, "columns"
    )
    if whole or not isinstance(rows, Sized):
        msg = f"`X` must be a sequence with one entry a row, got {type(rows).__name__}."
        raise TypeError(msg)
    sequence: Any = rows
    by_place = (sequence[place] for place in range(len(rows)))  # a Dataset has no more
    return _sequence_keys(rows if isinstance(rows, Iterable) else by_place, start)


def _array_keys(array: NDArray[Any], start: Any) -> Iterator[bytes]:
    """Hash the rows of an array, some megabytes at a time."""
    name, shape = dtype_name(array.dtype), array.shape[1:]
    row_bytes = array.itemsize * int(np.prod(shape))
    base = start.copy()
    base.update(_array_head(name, shape, row_bytes))
    for part in _cut(len(array), row_bytes):
        yield from _hash_each(row_bytes, part, base, array_bytes(array[part]))


def _tensor_keys(tensor: torch.Tensor, start: Any) -> Iterator[bytes]:
    """Hash the rows of a tensor, wherever it is, some megabytes at a time."""
    shape = tuple(tensor.shape[1:])
    row_bytes = tensor.element_size() * int(np.prod(shape))
    for part in _cut(len(tensor), row_bytes):
        values = plain(tensor[part])
        row_bytes = values.nbytes // max(len(values), 1)  # more, where it was packed
        base = start.copy()
        base.update(_array_head(_torch_name(tensor), shape, row_bytes))
        yield from with_bytes(values, partial(_hash_each, row_bytes, part, base))


def _sparse_keys(matrix: Any, start: Any) -> Iterator[bytes]:
    """Hash the rows of a sparse matrix as those of the equal array."""
    n_rows, n_columns = matrix.shape
    for part in _cut(n_rows, n_columns * matrix.dtype.itemsize):
        yield from _array_keys(matrix[part].toarray(), start)


def _cut(n_rows: int, row_bytes: int) -> Iterator[slice]:
    step = max(1, _CHUNK_BYTES // max(1, row_bytes))
    for first in range(0, n_rows, step):
        yield slice(first, min(first + step, n_rows))


def _hash_each(row_bytes: int, part: slice, base: Any, memory: Any) -> list[bytes]:
    """Hash each row of a piece of memory, after what `base` has heard."""
    view = memoryview(memory).cast("B")
    copy, keys = base.copy, []
    for row in range(part.stop - part.start):
        own = copy()
        own.update(view[row * row_bytes : (row + 1) * row_bytes])
        keys.append(own.digest())
    return keys


def _sequence_keys(rows: Iterable[Any], start: Any) -> Iterator[bytes]:
    """Hash entries of any kind."""
    copy = start.copy
    for place, row in enumerate(rows):
        own = copy()
        if type(row) is str:  # the commonest
            content = row.encode("utf-8", "surrogatepass")
            own.update(b"str%d:%b" % (len(content), content))
        else:
            try:
                _write(own.update, row, f"row {place} of `X`")
            except RecursionError as error:
                msg = f"a row of `X` is nested too deeply. {_ADVICE}"
                raise FingerprintError(msg) from error
        yield own.digest()


def _write(update: _Update, row: Any, name: str) -> None:
    """Write a row, or a part of one, with its kind and its length."""
    cls = type(row)
    if cls in ATOMS:
        kind, content_of = ATOMS[cls]
        _put(update, kind, content_of(row))
    elif cls is np.str_:
        _write(update, str(row), name)
    elif cls in (list, tuple, dict):
        _put(update, cls.__name__.encode(), b"%d" % len(row))
        for part in row.items() if cls is dict else row:
            _write(update, part, name)
    elif cls in _ARRAYS or issubclass(cls, np.generic):
        _write_array(update, np.asarray(row), name)
    elif issubclass(cls, torch.Tensor):
        values = plain(row)
        update(_array_head(_torch_name(row), tuple(row.shape), values.nbytes))
        with_bytes(values, update)
    elif issubclass(cls, os.PathLike):
        with open(row, "rb") as file:  # noqa: PTH123 - any path-like object
            content = hashlib.file_digest(file, _new_hash)
        _put(update, b"file", content.digest())
    elif _is_image(cls):
        _write_image(update, row)
    else:
        _put(update, b"object", digest(row, name=name, advice=_ADVICE))


def _put(update: _Update, kind: bytes, content: bytes) -> None:
    update(b"%b%d:%b" % (kind, len(content), content))


def _new_hash() -> Any:
    return hashlib.blake2b(digest_size=32)


def _array_head(dtype: str, shape: tuple[int, ...], n_bytes: int) -> bytes:
    """Write all of an array but its values, whose length is the last that is said."""
    text = f"{dtype} {shape}".encode()
    return b"array%d:%bvalues%d:" % (len(text), text, n_bytes)


def _torch_name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _write_array(update: _Update, array: NDArray[Any], name: str) -> None:
    n_bytes = 0 if array.dtype.hasobject else array.nbytes
    update(_array_head(dtype_name(array.dtype), array.shape, n_bytes))
    if array.dtype.hasobject:
        _write(update, array.ravel().tolist(), name)
    else:
        update(array_bytes(array))


def _is_image(cls: type) -> bool:
    """Tell an image of Pillow without importing it."""
    return any(
        base.__name__ == "Image" and base.__module__ == "PIL.Image"
        for base in cls.__mro__
    )


def _write_image(update: _Update, image: Any) -> None:
    """Write what is seen of an image: of an animated one, all frames."""
    n_frames, shown = getattr(image, "n_frames", 1), image.tell()
    _put(update, b"image", f"{n_frames} {shown}".encode())
    try:
        for frame in range(n_frames):
            if n_frames > 1:
                image.seek(frame)
            values = image.tobytes()  # first, since this loads all else
            about = (
                image.mode,
                image.size,
                image.palette and (image.palette.mode, image.getpalette(None)),
                image.info.get("transparency"),
                image.info.get("icc_profile"),
                image.getexif().get(_ORIENTATION),
                values,
            )
            _write(update, about, "an image")
    finally:
        if n_frames > 1:
            image.seek(shown)
