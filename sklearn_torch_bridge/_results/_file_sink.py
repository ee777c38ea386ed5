"""Write results into a memory-mapped ``.npy`` file; an interrupted run can go on.

The rows are in ``NAME.part`` while the run is under way; ``NAME.progress`` has a header
and one mark a row: a checksum of the finished row, its dtype and its shape. A row
counts only if it still has that checksum, so that no wrong row is left by a killed
process, by a machine that lost power before its disk was written, or by anybody who
wrote to the files. When all rows are done, the part gets its final name; the marks
stay, for the next call that asks for the same file. The mark of a row that was cut has
its length before that as well, and the header the limit.
"""

import json
import math
import os
import sys
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Literal, Self

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from sklearn_torch_bridge._results._array_sink import ArraySink
from sklearn_torch_bridge._row_numbers import as_indices
from sklearn_torch_bridge._tensor_bytes import array_bytes
from sklearn_torch_bridge._types import NUMERIC_KINDS, Piece, Rows

__all__ = ["FileSink"]

_FORMAT = 1
_HEADER_BYTES = 512
_IDENTITY_BYTES = 256  # of the header; behind them, at what limit rows are cut
_AT_ONCE_BYTES = 16 << 20
_DONE = np.uint64(1 << 32)  # above the checksum, which may be 0
_ALL = ~np.uint64(0)
_LENGTH = np.uint64(33)  # where the length begins of a row that was cut
_LONGEST = (1 << 31) - 1


class FileSink(ArraySink):
    """A file of `n_samples` rows, of which some may be finished already.

    `identity` is a digest of the rows and of all settings. As a context manager it
    holds a lock on the file's progress; `finish` gives the file its name.
    """

    def __init__(
        self, path: Path, n_samples: int, dtype: np.dtype[Any] | None, identity: bytes
    ) -> None:
        super().__init__(n_samples, dtype)
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._progress_path = path.with_name(path.name + ".progress")
        fields = {"format": _FORMAT, "rows": n_samples, "identity": identity.hex()}
        self._header = json.dumps(fields).encode().ljust(_HEADER_BYTES - 1) + b"\n"
        self._progress_bytes = _HEADER_BYTES + 8 * n_samples
        self._progress: IO[bytes]  # opened on entering
        self._marks: Any = None  # a memory map, made with the array
        self._cut: NDArray[np.int64] | None = None

    def __enter__(self) -> Self:
        if not self._path.parent.is_dir():
            msg = f"`path` must be in a folder that exists, got {str(self._path)!r}."
            raise FileNotFoundError(msg)
        for path in (self._path, self._part, self._progress_path):
            if path.exists() and not path.is_file():  # opening a pipe would wait
                msg = f"{str(path)!r} must be free, or a file, and is something else."
                raise FileExistsError(msg)
        # Never replaced, so that all processes lock the same file.
        self._progress = self._progress_path.open("ab+", buffering=0)
        try:
            _lock(self._progress, self._path)
            self._take_over()
        except BaseException:
            self._progress.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._marks = None  # unmap before the lock goes
        self.release()
        self._progress.close()

    def is_finished(self) -> bool:
        """Return whether the file is complete; raise if it was changed since."""
        if not self._path.exists():
            return False
        array = self._read(self._path, "r")
        if array is None or not self._has_marks() or not self._as_marked(array).all():
            msg = (
                f"{str(self._path)!r} must be as `transform_to_file` left it, and was "
                "changed since. Remove it, or choose another `path`."
            )
            raise FileExistsError(msg)
        return True

    def finished_rows(self) -> NDArray[np.bool_]:
        """Resume what an interrupted run has left; return which rows are done."""
        part = self._read(self._part, "r+")
        done = np.zeros(self._n_samples, bool)
        if part is not None:
            _reserve(self._part)  # first: reading a hole of a file may take room too
            done = self._as_marked(part)
        # Where no row is as marked, its dtype and shape may be wrong.
        if done.any():
            self.array = part
            self._marks = self._map_marks()
        return done

    def cuts(self) -> tuple[NDArray[np.int64] | None, str]:
        """Return how long finished rows were that were cut, and at what limit."""
        self._progress.seek(_IDENTITY_BYTES)
        written = self._progress.read(_HEADER_BYTES - _IDENTITY_BYTES)
        limit = written.decode("ascii", errors="replace").strip()
        if not limit or not self._has_marks():
            return None, ""
        return (np.array(self._map_marks()) >> _LENGTH).astype(np.int64), limit

    def note_cuts(self, lengths: NDArray[np.int64], limit: str) -> None:
        """Note in the marks to come how long rows were that are cut."""
        self._cut = np.minimum(lengths, _LONGEST)
        end = limit.encode().ljust(_HEADER_BYTES - _IDENTITY_BYTES - 1) + b"\n"
        with self._progress_path.open("rb+") as file:
            file.seek(_IDENTITY_BYTES)
            file.write(end)

    def write(self, rows: Rows, pieces: Sequence[Piece]) -> int:
        """Write a batch to the file, then mark its rows as finished."""
        n_rows = super().write(rows, pieces)
        self._mark(self.caller_rows(rows))
        return n_rows

    def fill(self, places: Rows, value: Any) -> None:
        """Set rows of the caller's `X`; those that failed are not marked."""
        super().fill(places, value)
        if not np.isscalar(value):
            self._mark(places)

    def finish(self) -> None:
        """Rename the file to its final name, now that it is complete."""
        assert isinstance(self.array, np.memmap)  # noqa: S101 - allocated by then
        bad = np.flatnonzero(self._marks == 0)  # they are NaN, and finished now
        if len(bad):
            self._mark(bad)
        self.array.flush()
        self._marks.flush()
        self._marks = None
        self.release()
        self._part.replace(self._path)

    def _make(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        self._progress.truncate(_HEADER_BYTES)  # marks of rows that are gone
        try:
            self._marks = self._map_marks()
            part = npy.open_memmap(self._part, mode="w+", dtype=dtype, shape=shape)
            _reserve(self._part)
        except BaseException:
            with suppress(OSError):  # else what is left might keep the disk full
                self._part.unlink()
            raise
        return part

    def _mark(self, rows: Rows) -> None:
        assert self.array is not None  # noqa: S101 - something was written
        places = as_indices(rows)
        marks = _checksums(self.array[places])
        if self._cut is not None:
            marks |= self._cut[places].astype(np.uint64) << _LENGTH
        self._marks[places] = marks

    def _map_marks(self) -> NDArray[np.uint64]:
        if not self._has_marks():
            self._progress.truncate(self._progress_bytes)
        _reserve(self._progress_path)
        shape = (self._n_samples,)
        return np.memmap(self._progress_path, np.uint64, "r+", _HEADER_BYTES, shape)

    def _has_marks(self) -> bool:
        return self._progress_path.stat().st_size == self._progress_bytes

    def _as_marked(self, array: NDArray[Any]) -> NDArray[np.bool_]:
        """Return for each row whether it has the checksum of its mark."""
        marks = self._map_marks()
        done = np.zeros(self._n_samples, bool)
        marked = np.flatnonzero(marks)
        step = max(1, _AT_ONCE_BYTES // max(1, array[:1].nbytes))
        for start in range(0, len(marked), step):
            rows = marked[start : start + step]
            own = marks[rows] & ~(_ALL << _LENGTH)
            done[rows] = own == _checksums(array[rows])
        return done

    def _read(self, path: Path, mode: Literal["r", "r+"]) -> NDArray[Any] | None:
        """Map a file; return None if it is incomplete, or no file of ours."""
        header = _read_header(path)
        if header is None:
            return None
        shape, dtype, start = header
        n_bytes = start + math.prod(shape) * dtype.itemsize
        fits = self._dtype in (None, dtype) and shape[:1] == (self._n_samples,)
        # A map would make a shorter file longer.
        if len(shape) == 1 or not fits or path.stat().st_size != n_bytes:
            return None
        return np.memmap(path, dtype, mode, start, shape)

    def _take_over(self) -> None:
        """Go on with files of the same rows and settings; refuse others."""
        self._progress.seek(0)
        header = self._progress.read(_HEADER_BYTES)
        there = [path for path in (self._path, self._part) if path.exists()]
        own = self._header[:_IDENTITY_BYTES]
        if there and header[:_IDENTITY_BYTES] == own:
            return
        if not there:  # free, or killed before anything was written
            self._progress.truncate(0)
            self._progress.write(self._header)
            return
        what = "holds other rows, or was made with other settings"
        if not header.startswith(b'{"format"'):
            what = "was not made by `transform_to_file`"
        if not header:
            self._progress_path.unlink()  # made by us, just now
        msg = (
            "`path` must be free, or name a file of these rows and settings, but "
            f"{str(there[0])!r} {what}. Remove it, or choose another `path`."
        )
        raise FileExistsError(msg)


def _read_header(path: Path) -> tuple[tuple[int, ...], np.dtype[Any], int] | None:
    """Return shape, dtype and where the values start; None if it has no such header."""
    try:
        with path.open("rb") as file:
            if npy.read_magic(file) != (1, 0):
                return None
            shape, is_fortran, dtype = npy.read_array_header_1_0(file)
            start = file.tell()
    except Exception:  # noqa: BLE001 - NumPy parses damaged text, with many kinds
        return None
    is_numeric = dtype.kind in NUMERIC_KINDS and not is_fortran
    is_shape = all(type(size) is int and size > 0 for size in shape)
    return (shape, dtype, start) if is_numeric and is_shape else None


def _checksums(rows: NDArray[Any]) -> NDArray[np.uint64]:
    """Compute a checksum of each row; one bit is set in all, none for a missing row."""
    # The same bytes as another dtype, or in another shape, would be other values.
    layout = zlib.crc32(f"{rows.dtype.str}{list(rows.shape[1:])}".encode())
    memory = array_bytes(rows).reshape(len(rows), -1)
    sums = (zlib.crc32(row.data, layout) for row in memory)
    return np.fromiter(sums, np.uint64, len(rows)) | _DONE


def _reserve(path: Path) -> None:
    """Allocate the disk space now: a map that meets a full disk ends the process."""
    if hasattr(os, "posix_fallocate"):
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _lock(file: IO[bytes], path: Path) -> None:
    """Lock a file until it is closed, also by the end of the process."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        msg = f"`path`={str(path)!r} is being written by another run."
        raise FileExistsError(msg) from error
