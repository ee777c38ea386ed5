"""The cache key of a row: a digest of what it holds, then of that and a fingerprint.

What a row holds decides, never where it stands. The fingerprint is that of the model
and of all settings.
"""

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse

from sklearn_torch_bridge._convert import unwrap
from sklearn_torch_bridge._digest._digest_value import digest
from sklearn_torch_bridge._digest._encoder import ATOMS
from sklearn_torch_bridge._digest._file_digests import FilesBeside
from sklearn_torch_bridge._digest._tensors_and_arrays import dtype_name, portable_bytes
from sklearn_torch_bridge._errors import FingerprintError
from sklearn_torch_bridge._tensor_bytes import Bytes, new_hash, tensor_bytes

__all__ = ["cache_keys", "content_digests", "rows_digest"]

_new_row_hash = partial(hashlib.blake2b, digest_size=16)
_CHUNK_BYTES = 4 << 20  # of strided, memory-mapped or device memory, copied at once
_ADVICE = (
    "With `cache`, rows must be arrays, tensors, str, bytes, numbers, images, paths, "
    "or lists, tuples and dicts of these."
)
_ARRAYS = (np.ndarray, np.memmap)
_ORIENTATION = 0x0112  # of Exif: which side of an image is up

_Update: TypeAlias = Callable[[Any], None]


def cache_keys(contents: Iterable[bytes], fingerprint: bytes) -> list[bytes]:
    """Return 16 bytes for each of `contents` that no other row and fingerprint have.

    >>> contents = content_digests(["a", "b"])
    >>> len({*cache_keys(contents, b"model 1"), *cache_keys(contents, b"model 2")})
    4
    """
    return _hash_each(contents, _new_row_hash(key=fingerprint))


def content_digests(rows: Any, *, beside: FilesBeside | None = None) -> list[bytes]:
    """Return 16 bytes for what each row holds, which no other row has.

    `rows` is an array, a tensor or a sparse matrix (the same digests for equal rows),
    or a sequence of arrays, tensors, str, bytes, numbers, None, images of Pillow, paths
    (the file's content counts, not its name; with `beside` also its place and the
    files beside it that share its stem), lists, tuples and dicts of these, and
    objects that `digest` can identify; others raise `FingerprintError`.

    >>> ones, mixed = content_digests(np.ones((2, 3))), content_digests([None, "1", 1])
    >>> ones[0] == ones[1], len(set(mixed))
    (True, 3)
    """
    return list(_iter_digests(rows, beside))


def rows_digest(rows: Any, *, beside: FilesBeside | None = None) -> bytes:
    """Return 32 bytes for all rows, in their order."""
    whole = new_hash()
    for content in _iter_digests(rows, beside):
        whole.update(content)
    return whole.digest()


def _iter_digests(rows: Any, beside: FilesBeside | None) -> Iterator[bytes]:
    """Choose how the rows are hashed by what they are."""
    if isinstance(rows, (np.ndarray, torch.Tensor)) and not rows.ndim:
        msg = "`X` must have rows, got an array without axes."
        raise TypeError(msg)
    if isinstance(rows, torch.Tensor):
        return _array_digests(rows, _tensor_values)
    if issparse(rows):
        return _array_digests(rows, lambda part: portable_bytes(part.toarray()))
    if type(rows) in _ARRAYS and not (rows.dtype.hasobject or rows.dtype.kind == "U"):
        return _array_digests(rows, portable_bytes)
    whole = isinstance(rows, (str, bytes, set, frozenset, Mapping))
    if whole or hasattr(rows, "columns") or not isinstance(rows, Sized):
        msg = f"`X` must be a sequence with one entry a row, got {type(rows).__name__}."
        raise TypeError(msg)
    sequence: Any = rows
    by_place = (sequence[place] for place in range(len(rows)))  # a Dataset has no more
    entries = rows if isinstance(rows, Iterable) else by_place
    return _sequence_digests(entries, beside)


def _array_digests(rows: Any, to_bytes: Callable[[Any], Bytes]) -> Iterator[bytes]:
    """Hash the rows of an array, a tensor or a matrix, some megabytes at a time."""
    row_bytes = rows.dtype.itemsize * math.prod(rows.shape[1:])
    step = max(1, _CHUNK_BYTES // max(1, row_bytes))
    for first in range(0, rows.shape[0], step):
        part = rows[first : first + step]
        memory, n_rows = to_bytes(part).data, part.shape[0]
        n_bytes = len(memory) // n_rows
        start = _new_row_hash(_array_head(rows.dtype, rows.shape[1:], n_bytes))
        cuts = (memory[row * n_bytes : (row + 1) * n_bytes] for row in range(n_rows))
        yield from _hash_each(cuts, start)


def _hash_each(contents: Iterable[bytes | memoryview], start: Any) -> list[bytes]:
    """Hash each of `contents`, going on from the hash `start`."""
    copy, digests = start.copy, []
    for content in contents:
        own = copy()
        own.update(content)
        digests.append(own.digest())
    return digests


def _sequence_digests(
    rows: Iterable[Any], beside: FilesBeside | None
) -> Iterator[bytes]:
    """Hash entries of any kind."""
    copy = _new_row_hash().copy
    for place, row in enumerate(rows):
        own = copy()
        if type(row) is str:  # the commonest
            content = row.encode("utf-8", "surrogatepass")
            own.update(b"str%d:%b" % (len(content), content))
        else:
            try:
                _write(own.update, row, f"row {place} of `X`", beside)
            except RecursionError as error:
                msg = f"a row of `X` is nested too deeply. {_ADVICE}"
                raise FingerprintError(msg) from error
        yield own.digest()


def _write(
    update: _Update, row: Any, name: str, beside: FilesBeside | None = None
) -> None:
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
            _write(update, part, name, beside)
    elif cls in _ARRAYS or issubclass(cls, np.generic):
        _write_array(update, np.asarray(row), name, beside)
    elif issubclass(cls, torch.Tensor):
        memory = _tensor_values(row)
        update(_array_head(row.dtype, row.shape, len(memory)))
        update(memory)
    elif issubclass(cls, os.PathLike):
        with open(row, "rb") as file:  # noqa: PTH123 - any path-like object
            content = hashlib.file_digest(file, new_hash)
        _put(update, b"file", content.digest())
        if beside is not None:
            _put(update, b"place", beside.place_of(row))
    elif _is_image(cls):
        _write_image(update, row)
    else:
        _put(update, b"object", digest(row, name=name, advice=_ADVICE))


def _put(update: _Update, kind: bytes, content: bytes) -> None:
    update(b"%b%d:%b" % (kind, len(content), content))


def _array_head(dtype: Any, shape: Iterable[int], n_bytes: int) -> bytes:
    """Return what is written of an array before its values; it ends in their length."""
    text = f"{dtype_name(dtype)} {tuple(shape)}".encode()
    return b"array%d:%bvalues%d:" % (len(text), text, n_bytes)


def _tensor_values(tensor: torch.Tensor) -> Bytes:
    return tensor_bytes(unwrap(tensor))


def _write_array(
    update: _Update, array: NDArray[Any], name: str, beside: FilesBeside | None
) -> None:
    has_objects = array.dtype.hasobject
    update(_array_head(array.dtype, array.shape, 0 if has_objects else array.nbytes))
    if has_objects:
        _write(update, array.ravel().tolist(), name, beside)
    else:
        update(portable_bytes(array))


def _is_image(cls: type) -> bool:
    """Return whether a class is an image of Pillow, without importing it."""
    names = ((base.__module__, base.__name__) for base in cls.__mro__)
    return ("PIL.Image", "Image") in names


def _write_image(update: _Update, image: Any) -> None:
    """Write what an image shows: of an animated one, all frames."""
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
