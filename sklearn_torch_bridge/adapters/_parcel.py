"""An object with its weights, packed once, and opened once by each process.

What pickles is a `Ticket`: a digest, and where the parcel lies. A process keeps what
it has opened, so that the tasks it runs share one model.
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
from importlib.metadata import version
from mmap import ACCESS_COPY, mmap
from pathlib import Path
from tempfile import NamedTemporaryFile, mkdtemp
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sklearn_torch_bridge._pickling import cloudpickle

__all__ = [
    "DELIVERED",
    "AtWorker",
    "InFile",
    "InTicket",
    "Parcel",
    "Place",
    "Ticket",
    "pack",
    "put_in_file",
    "temporary_folder",
]

_ALIGNED_BYTES = 64  # a cache line, as NumPy and torch have their memory
_SMALL_BYTES = 16_384  # at most this goes along with every task
_N_KEPT = 8  # opened parcels that a process keeps
_PACKAGES = ("sklearn-torch-bridge", "torch", "scikit-learn", "numpy")

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Parcel:
    """A pickle, and the memory of the arrays that it speaks of, beside it."""

    main: bytes
    buffers: tuple[Bytes, ...]
    digest: str

    @property
    def n_bytes(self) -> int:
        """Count all bytes."""
        return len(self.main) + sum(buffer.nbytes for buffer in self.buffers)

    @property
    def is_small(self) -> bool:
        """Tell what may go along with every task."""
        return self.n_bytes <= _SMALL_BYTES

    def open(self) -> Any:
        """Make the object; it computes with the memory of the parcel."""
        return pickle.loads(self.main, buffers=self.buffers)  # noqa: S301 - of `pack`


def pack(content: Any) -> Parcel:
    """Pickle an object; the memory of large arrays is not copied.

    The digest is of all that decides what comes out: the same object, the same digest.
    """
    found: list[pickle.PickleBuffer] = []
    main = cloudpickle.dumps(content, protocol=5, buffer_callback=found.append)
    buffers = tuple(_as_bytes(buffer.raw()) for buffer in found)
    return Parcel(main, buffers, _digest(main, buffers))


def _as_bytes(raw: memoryview) -> Bytes:
    return np.frombuffer(raw, np.uint8) if raw.nbytes else np.empty(0, np.uint8)


class Place(Protocol):
    """Where a parcel lies."""

    def fetch(self, digest: str) -> Parcel:
        """Give the parcel, in any process that may ask for it."""


@dataclass(frozen=True)
class InTicket:
    """A small parcel, which goes along."""

    parcel: Parcel

    def fetch(self, digest: str) -> Parcel:
        """Give it."""
        return self.parcel


@dataclass(frozen=True)
class InFile:
    """A file that every process can read, and maps instead of holding a copy."""

    path: str

    def fetch(self, digest: str) -> Parcel:
        """Map the file; what is written to the memory stays in this process."""
        try:
            parcel = _read(Path(self.path))
        except FileNotFoundError as error:
            msg = (
                f"the weights are expected in the file {self.path!r}, which this "
                "worker cannot see. Use a folder that all workers and the client "
                "share (`weights`='/shared/folder'), or have the scheduler send them "
                "(`weights`='scheduler'). A file of `weights_in_file` is gone when its "
                "block ends, and one in a temporary folder when the process ends that "
                "wrote it."
            )
            raise FileNotFoundError(msg) from error
        if parcel.digest != digest:
            msg = (
                f"{self.path!r} must hold the weights that were written to it, but "
                "their digest differs: the file was changed or damaged."
            )
            raise ValueError(msg)
        return parcel


DELIVERED: dict[str, Parcel] = {}  # what the scheduler has sent to this worker


@dataclass(frozen=True)
class AtWorker:
    """At each worker already."""

    def fetch(self, digest: str) -> Parcel:
        """Give what was delivered."""
        if digest not in DELIVERED:
            msg = (
                "the scheduler has sent no weights to this worker. Was the graph made "
                "with another client? Make it anew, or give `weights` a folder that "
                "all machines share."
            )
            raise LookupError(msg)
        return DELIVERED[digest]


class Ticket:
    """Stands for an object; pickles as a few bytes, whatever the object's size.

    In the process that made it, it stands for the very object. Anywhere else it is
    opened once: `deliver` tells where, when the ticket is first pickled, if `place` is
    not given.
    """

    def __init__(
        self,
        content: Any,
        parcel: Parcel,
        *,
        place: Place | None = None,
        deliver: Callable[[Parcel], Place] | None = None,
    ) -> None:
        self.digest = parcel.digest
        self.versions = _versions()
        self._content: tuple[Any] | None = (content,)
        self._parcel = parcel
        self._deliver = deliver or (lambda parcel: put_in_file(parcel, None))
        self._place = place
        if place is None and parcel.is_small:
            self._place = InTicket(parcel)

    def __getstate__(self) -> dict[str, Any]:
        with _LOCK:  # graphs are pickled in other threads
            if self._place is None:
                self._place = self._deliver(self._parcel)
        return {
            "digest": self.digest,
            "versions": self.versions,
            "_place": self._place,
            "_content": None,
        }

    def open(self, prepare: Callable[[Any], Any] = lambda content: content) -> Any:
        """Give the object; where it was opened before, that one, as it was prepared."""
        if self._content is not None:
            return self._content[0]
        with _LOCK:
            if self.digest not in _OPENED:
                assert self._place is not None  # noqa: S101 - pickling has set it
                self._check_versions()
                _OPENED[self.digest] = prepare(self._place.fetch(self.digest).open())
            _OPENED.move_to_end(self.digest)
            while len(_OPENED) > _N_KEPT:
                _OPENED.popitem(last=False)
            return _OPENED[self.digest]

    def _check_versions(self) -> None:
        """Refuse what another version of this package has packed."""
        name = _PACKAGES[0]
        here = _versions()
        if here[name] != self.versions[name]:
            msg = (
                f"workers must have the version of {name} that the client has, got "
                f"{_listed(here)} on this worker and {_listed(self.versions)} on the "
                "client."
            )
            raise ImportError(msg)


_OPENED: OrderedDict[str, Any] = OrderedDict()
_LOCK = threading.RLock()


def put_in_file(parcel: Parcel, folder: str | os.PathLike[str] | None) -> InFile:
    """Write a parcel into a folder, under its digest, if it is not there yet.

    Without a folder it is a temporary one, gone when this process ends.
    """
    place = Path(temporary_folder() if folder is None else folder).absolute()
    path = place / f"{parcel.digest}.weights"
    if not path.exists():
        _write(parcel, path)
    return InFile(str(path))


def temporary_folder() -> str:
    """Give the folder of this process, gone when it ends."""
    with _LOCK:
        process = os.getpid()
        if process not in _FOLDERS:
            _FOLDERS[process] = mkdtemp(prefix="sklearn-torch-bridge-")
            atexit.register(_remove_folder, process)
        return _FOLDERS[process]


_FOLDERS: dict[int, str] = {}  # a fork has one of its own


def _remove_folder(process: int) -> None:
    if process == os.getpid():
        shutil.rmtree(_FOLDERS[process], ignore_errors=True)


def _write(parcel: Parcel, path: Path) -> None:
    """Write a file that has its name only when it is whole."""
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
    if not path.stat().st_size:  # which cannot be mapped
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
    except (TypeError, ValueError):  # whose digest will differ
        pieces = [whole]
    main, buffers = pieces[0].tobytes(), tuple(pieces[1:])
    return Parcel(main, buffers, _digest(main, buffers))


def _digest(main: bytes, buffers: Iterable[Bytes]) -> str:
    digest = hashlib.blake2b(main, digest_size=16)
    for buffer in buffers:
        digest.update(str(buffer.nbytes).encode())
        digest.update(buffer.data)
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    return {name: version(name) for name in _PACKAGES}


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())
