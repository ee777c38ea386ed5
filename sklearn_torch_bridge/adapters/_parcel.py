"""An object with its weights, packed once, and opened once by each process.

Tasks hold a `Reference`: a digest, and where the parcel is. A process keeps what it
has opened, so that its tasks share one model.
"""

import atexit
import hashlib
import json
import os
import pickle
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from mmap import ACCESS_COPY, mmap
from pathlib import Path
from tempfile import NamedTemporaryFile, mkdtemp
from typing import Any

import numpy as np

from sklearn_torch_bridge._packages import VERSION, VERSIONS
from sklearn_torch_bridge._pickling import cloudpickle
from sklearn_torch_bridge._tensor_bytes import Bytes

__all__ = [
    "DELIVERED",
    "Parcel",
    "Place",
    "Reference",
    "at_worker",
    "in_file",
    "pack",
    "put_in_file",
]

_ALIGNED_BYTES = 64  # a cache line, as NumPy and torch have their memory
_SMALL_BYTES = 16_384  # at most this goes along with every task
_N_KEPT = 8  # opened parcels that a process keeps


@dataclass(frozen=True)
class Parcel:
    """A pickle, and beside it the memory of its arrays."""

    main: bytes
    buffers: tuple[Bytes, ...]
    digest: str

    @property
    def n_bytes(self) -> int:
        """The size of all."""
        return len(self.main) + sum(buffer.nbytes for buffer in self.buffers)

    @property
    def is_small(self) -> bool:
        """Whether it may be part of every task."""
        return self.n_bytes <= _SMALL_BYTES

    def open(self) -> Any:
        """Make the object, whose arrays are the memory of the parcel."""
        return pickle.loads(self.main, buffers=self.buffers)  # noqa: S301 - of `pack`


def pack(content: Any) -> Parcel:
    """Pickle an object without copying large arrays; equal ones have equal digests."""
    found: list[pickle.PickleBuffer] = []
    main = cloudpickle.dumps(content, protocol=5, buffer_callback=found.append)
    buffers = tuple(np.asarray(buffer.raw()) for buffer in found)
    return Parcel(main, buffers, _digest(main, buffers))


Place = Callable[[], Parcel]  # fetches a parcel, in any process
DELIVERED: dict[str, Parcel] = {}  # what the scheduler of Dask has sent to this worker


def in_file(path: str, digest: str) -> Parcel:
    """Map a file that every process can read; writes to its memory stay in this one."""
    try:
        parcel = _read(Path(path))
    except FileNotFoundError as error:
        msg = (
            f"the weights are expected in the file {path!r}, which this worker cannot "
            "see. Use a folder that all workers and the client share "
            "(`weights`='/shared/folder'), or have the scheduler send them "
            "(`weights`='scheduler'). A file of `weights_in_file` is gone when its "
            "block ends, one in a temporary folder when the process that wrote it ends."
        )
        raise FileNotFoundError(msg) from error
    if parcel.digest != digest:
        msg = (
            f"{path!r} must hold the weights that were written to it, but their digest "
            "differs: the file was changed or damaged."
        )
        raise ValueError(msg)
    return parcel


def at_worker(digest: str) -> Parcel:
    """Return what the scheduler has delivered to this worker of Dask."""
    if digest not in DELIVERED:
        msg = (
            "the scheduler has sent no weights to this worker. Was the graph made with "
            "another client? Make it anew, or give `weights` a folder that all "
            "machines share."
        )
        raise LookupError(msg)
    return DELIVERED[digest]


class Reference:
    """A reference to an object, which pickles as a few bytes.

    In the process that made it, it opens as the object itself. Any other opens the
    parcel, once. Without `place`, a large one goes into `folder` at the first pickle.
    """

    def __init__(
        self,
        content: Any,
        parcel: Parcel,
        *,
        place: Place | None = None,
        folder: Path | None = None,
    ) -> None:
        self.digest, self.versions = parcel.digest, VERSIONS
        self._content: tuple[Any] | None = (content,)
        self._parcel, self._folder, self._place = parcel, folder, place
        if place is None and parcel.is_small:
            self._place = partial(Parcel, parcel.main, parcel.buffers, parcel.digest)

    def __getstate__(self) -> dict[str, Any]:
        with _LOCK:  # graphs are pickled in other threads
            if self._place is None:
                self._place = put_in_file(self._parcel, self._folder)
        kept = {"digest": self.digest, "versions": self.versions}
        return {**kept, "_place": self._place, "_content": None}

    def open(self, prepare: Callable[[Any], Any] = lambda content: content) -> Any:
        """Return the object; a process opens and prepares it once."""
        if self._content is not None:
            return self._content[0]
        with _LOCK:
            if self.digest not in _OPENED:
                assert self._place is not None  # noqa: S101 - pickling has set it
                _check_versions(self.versions)
                _OPENED[self.digest] = prepare(self._place().open())
            _OPENED.move_to_end(self.digest)
            while len(_OPENED) > _N_KEPT:
                _OPENED.popitem(last=False)
            return _OPENED[self.digest]


def _check_versions(versions: dict[str, str]) -> None:
    """Refuse what another version of this package has packed."""
    name = "sklearn-torch-bridge"
    if versions[name] != VERSION:
        both = (VERSIONS, versions)
        here, there = (", ".join(map(" ".join, one.items())) for one in both)
        msg = (
            f"workers must have the version of {name} that the client has, got {here} "
            f"on this worker and {there} on the client."
        )
        raise ImportError(msg)


_OPENED: OrderedDict[str, Any] = OrderedDict()
_LOCK = threading.RLock()


def put_in_file(parcel: Parcel, folder: Path | None) -> Place:
    """Write a parcel into a folder, or a temporary one, if it is not there yet."""
    with _LOCK:
        place = Path(folder or _temporary_folder(os.getpid())).absolute()
    path = place / f"{parcel.digest}.weights"
    if not path.exists():
        _write(parcel, path)
    return partial(in_file, str(path), parcel.digest)


@lru_cache
def _temporary_folder(process: int) -> str:
    """Make a folder of this process, not of its forks, removed when it ends."""
    folder = mkdtemp(prefix="sklearn-torch-bridge-")

    def remove() -> None:
        if process == os.getpid():
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


def _write(parcel: Parcel, path: Path) -> None:
    """Write a file, which gets its final name only when it is whole."""
    pieces = [np.frombuffer(parcel.main, np.uint8), *parcel.buffers]
    header = json.dumps([piece.nbytes for piece in pieces]).encode()
    with NamedTemporaryFile(dir=path.parent, delete=False) as file:
        temporary = Path(file.name)
        try:
            file.write(len(header).to_bytes(8, "little") + header)
            for piece in pieces:
                file.write(bytes(-file.tell() % _ALIGNED_BYTES))
                file.write(piece.data)
        except BaseException:
            temporary.unlink()
            raise
    if _digest(parcel.main, parcel.buffers) != parcel.digest:
        temporary.unlink()
        msg = (
            "the weights of `extractor` have changed since the graph was made. Make it "
            "again; a model must not be trained while it waits to be computed."
        )
        raise RuntimeError(msg)
    temporary.replace(path)


def _read(path: Path) -> Parcel:
    """Map what `_write` wrote."""
    if not path.stat().st_size:  # an empty file cannot be mapped
        return Parcel(b"", (), "")
    with path.open("rb") as file:
        whole = np.frombuffer(mmap(file.fileno(), 0, access=ACCESS_COPY), np.uint8)
    start = 8 + int.from_bytes(whole[:8].tobytes(), "little")
    pieces = []
    try:
        for n_bytes in json.loads(whole[8:start].tobytes()):
            start += -start % _ALIGNED_BYTES
            pieces.append(whole[start : start + n_bytes])
            start += n_bytes
    except (TypeError, ValueError):  # damaged: the digest will differ
        pieces = [whole]
    main, buffers = pieces[0].tobytes(), tuple(pieces[1:])
    return Parcel(main, buffers, _digest(main, buffers))


def _digest(main: bytes, buffers: Iterable[Bytes]) -> str:
    digest = hashlib.blake2b(main, digest_size=16)
    for buffer in buffers:
        digest.update(str(buffer.nbytes).encode())
        digest.update(buffer.data)
    return digest.hexdigest()
