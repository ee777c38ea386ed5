"""The fingerprint of a model's files, so that nobody has to load it."""

import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from sklearn_torch_bridge._digest._values import digest

__all__ = ["fingerprint_files"]

_SETTLED_NS = 2_000_000_000  # a file changed less long ago may change unseen once more


class _State(NamedTuple):
    """What differs when a file has changed."""

    path: str
    device: int
    inode: int
    n_bytes: int
    modified_ns: int
    changed_ns: int


_KNOWN: dict[_State, bytes] = {}


def fingerprint_files(paths: Iterable[str | os.PathLike[str]]) -> bytes:
    """Give 32 bytes for files with their names, in whatever order they come.

    Names count from the folder that holds them all, which itself does not, as a model
    is the same wherever it lies. Each file is read once per process, and again when
    its size, times or inode differ: 120 ms for 91 MB, then 0.1 ms.

    Raises `ValueError` where there are no files.
    """
    files = sorted({Path(os.path.abspath(path)) for path in paths})  # noqa: PTH100 - links stay
    if not files:
        msg = "`paths` must name at least one file, got none."
        raise ValueError(msg)
    folder = os.path.commonpath([file.parent for file in files])
    return digest(
        [(file.relative_to(folder).as_posix(), _file_digest(file)) for file in files]
    )


def _file_digest(path: Path) -> bytes:
    """Digest what is in a file, unless that was done and it has not changed since."""
    with path.open("rb") as file:
        state = _state(path, file.fileno())
        known = _KNOWN.get(state)
        if known is None:
            known = hashlib.file_digest(file, _new_hash).digest()
            newest = max(state.modified_ns, state.changed_ns)
            settled = time.time_ns() - newest > _SETTLED_NS
            if settled and _state(path, file.fileno()) == state:
                _KNOWN[state] = known
    return known


def _state(path: Path, descriptor: int) -> _State:
    now = os.fstat(descriptor)
    place = (str(path), now.st_dev, now.st_ino)
    return _State(*place, now.st_size, now.st_mtime_ns, now.st_ctime_ns)


def _new_hash() -> Any:
    return hashlib.blake2b(digest_size=32)
