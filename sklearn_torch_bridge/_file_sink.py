"""Results into a memory-mapped ``.npy`` file that an interrupted run leaves resumable.

Beside ``NAME`` stand, while the run is under way, ``NAME.part`` with the rows and
``NAME.progress`` with a header and one mark a row: the checksum of a finished row. A
row counts only if its bytes still have that checksum, so that neither a killed process
nor a machine that lost power before its disk was written can leave a wrong row. When
all is done the part takes its final name, and the header alone stays.
"""

import json
import os
import sys
import zlib
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray

from sklearn_torch_bridge._batching import as_indices
from sklearn_torch_bridge._sink import ArraySink
from sklearn_torch_bridge._types import Rows

__all__ = ["FileSink"]

_FORMAT = 1
_HEADER_BYTES = 512
_AT_ONCE_BYTES = 16 << 20
_DONE = np.uint64(1 << 32)  # above the checksum, which may be 0


class FileSink(ArraySink):
    """A file of `n_samples` rows, of which some may be finished already.

    `identity` tells what the rows are and how they are made. As a context manager it
    holds a lock on the file's progress; `finish` gives the file its name.
    """

    def __init__(
        self, path: Path, n_samples: int, dtype: np.dtype[Any] | None, identity: bytes
    ) -> None:
        super().__init__(n_samples, dtype)
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._progress_path = path.with_name(path.name + ".progress")
        self._header = _header(identity, n_samples)
        self._progress: IO[bytes] | None = None
        self._marks: NDArray[np.uint64] | None = None

    def __enter__(self) -> Self:
        # Never replaced, so that all processes lock the same file.
        self._progress = self._progress_path.open("ab+", buffering=0)
        try:
            _lock(self._progress, self._path)
            self._take_over(self._progress)
        except BaseException:
            self._progress.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._marks = None  # unmap before the lock goes
        self.array = None
        if self._progress is not None:
            self._progress.close()

    def is_finished(self) -> bool:
        """Tell whether the file is there already, whole."""
        return self._path.exists()

    def finished_rows(self) -> NDArray[np.bool_]:
        """Take up what an interrupted run has left; which rows are done."""
        done = np.zeros(self._n_samples, bool)
        part = self._read_part()
        if part is None:
            return done
        self.array = part
        self._marks = self._map_marks()
        marked = np.flatnonzero(self._marks)
        step = max(1, _AT_ONCE_BYTES // max(1, part[:1].nbytes))
        for start in range(0, len(marked), step):
            rows = marked[start : start + step]
            done[rows] = self._marks[rows] == _checksums(part[rows])
        return done

    def write(self, rows: Rows, pieces: list[torch.Tensor]) -> None:
        """Put a batch into the file, then mark its rows as finished."""
        super().write(rows, pieces)
        self._mark(self.caller_rows(rows))

    def fill(self, places: Rows, value: Any) -> None:
        """Set rows of the caller's `X`; those that came to nothing are not marked."""
        super().fill(places, value)
        if not np.isscalar(value):
            self._mark(places)

    def finish(self) -> None:
        """Give the file its name: only now, when it is whole."""
        assert isinstance(self.array, np.memmap)  # noqa: S101 - allocated by then
        assert self._progress is not None  # noqa: S101 - entered
        self.array.flush()
        self.array = self._marks = None
        self._part.replace(self._path)
        self._progress.truncate(_HEADER_BYTES)

    def _make(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        assert self._progress is not None  # noqa: S101 - entered
        self._progress.truncate(_HEADER_BYTES)  # marks of rows that are gone
        self._marks = self._map_marks()
        part = npy.open_memmap(self._part, mode="w+", dtype=dtype, shape=shape)
        _reserve(self._part)
        return part

    def _mark(self, rows: Rows) -> None:
        assert self.array is not None  # noqa: S101 - something was written
        assert self._marks is not None  # noqa: S101 - made with the array
        places = as_indices(rows)
        self._marks[places] = _checksums(self.array[places])

    def _map_marks(self) -> NDArray[np.uint64]:
        assert self._progress is not None  # noqa: S101 - entered
        size = _HEADER_BYTES + 8 * self._n_samples
        if os.fstat(self._progress.fileno()).st_size != size:
            self._progress.truncate(size)
        return np.memmap(
            self._progress_path,
            dtype=np.uint64,
            mode="r+",
            offset=_HEADER_BYTES,
            shape=(self._n_samples,),
        )

    def _read_part(self) -> NDArray[Any] | None:
        """Map what there is of the file; None if there is nothing of use."""
        try:
            part = npy.open_memmap(self._part, mode="r+")
        except (OSError, ValueError):  # not there, or killed while it was made
            return None
        fits = len(part) == self._n_samples and part.ndim > 1
        return part if fits and self._dtype in (None, part.dtype) else None

    def _take_over(self, progress: IO[bytes]) -> None:
        """Go on with files of this very call; leave others alone."""
        progress.seek(0)
        header = progress.read(_HEADER_BYTES)
        there = [path for path in (self._path, self._part) if path.exists()]
        if there and header == self._header:
            return
        if not there:  # free, or killed before anything was written
            progress.truncate(0)
            progress.write(self._header)
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


def _header(identity: bytes, n_samples: int) -> bytes:
    told = {"format": _FORMAT, "rows": n_samples, "identity": identity.hex()}
    return json.dumps(told).encode().ljust(_HEADER_BYTES - 1) + b"\n"


def _checksums(rows: NDArray[Any]) -> NDArray[np.uint64]:
    """Sum up each row, with a bit that tells it from a row never written."""
    dense = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8)
    sums = np.fromiter((zlib.crc32(row.data) for row in dense), np.uint64, len(rows))
    return sums | _DONE


def _reserve(path: Path) -> None:
    """Take the disk's space now: a map that meets a full disk ends the process."""
    if hasattr(os, "posix_fallocate"):
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _lock(file: IO[bytes], path: Path) -> None:
    """Hold a file until it is closed, also by the death of the process."""
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
