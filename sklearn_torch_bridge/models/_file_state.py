"""Whether the files that a model was loaded from are still as they were."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from sklearn_torch_bridge._digest import fingerprint_files

__all__ = ["FileState", "is_result"]

_SETTLED_NS = 2_000_000_000  # a file changed less long ago may change unseen once more

# How files begin that we write under whatever name: caches, and arrays of results.
_OURS = (b"SQLite format 3\0", b"\x93NUMPY")
_BESIDE = ("-journal", "-shm", "-wal")  # of SQLite

Files = Callable[[], Sequence[Path] | None]


class FileState:
    """Files as they are now: any that is written to, replaced, added or removed counts.

    `files` lists them anew at each look; None stands for files that are not known.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        began = time.time_ns()
        self.seen = _look_at(files)
        changed = [max(one[-2:]) for one in (self.seen or {}).values()]
        is_settled = began - max(changed, default=0) > _SETTLED_NS
        self._digest = None if is_settled else self._content()

    def is_current(self) -> bool:
        """Return whether all files are still as they were."""
        if _look_at(self._files) != self.seen:
            return False
        # Of a file just written, times and sizes do not tell the next change.
        return self._digest is None or self._digest == self._content()

    def changed_until(self, later: "FileState") -> bool:
        """Return whether a file seen here is another in a later state, or gone."""
        seen, now = self.seen or {}, later.seen or {}
        if any(now.get(path) != state for path, state in seen.items()):
            return True
        return bool(self._digest) and seen == now and self._digest != self._content()

    def _content(self) -> bytes | None:
        return fingerprint_files(self.seen) if self.seen else None


def _look_at(files: Files) -> dict[str, tuple[int, ...]] | None:
    """Return what differs once a file is written to; None where none is there yet."""
    try:
        return {str(path): _stat(path) for path in files() or ()}
    except FileNotFoundError:
        return None


def _stat(path: Path) -> tuple[int, ...]:
    """Return place, size and times of a file, which come last; links are followed."""
    now = os.stat(path)  # noqa: PTH116 - half the time of `Path.stat`
    place = (now.st_dev, now.st_ino)
    return (*place, now.st_size, now.st_mtime_ns, now.st_ctime_ns)


def is_result(path: Path) -> bool:
    """Return whether a file is a cache or an array, or empty as a new cache is."""
    if path.name.endswith(_BESIDE):
        return True
    with suppress(OSError), path.open("rb") as file:
        begin = file.read(16)
        return not begin or begin.startswith(_OURS)
    return False
