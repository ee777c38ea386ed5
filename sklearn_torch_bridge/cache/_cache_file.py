"""The file of a cache: create it, check that it is one, and name it for SQLite."""

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

from sklearn_torch_bridge.cache._schema import APPLICATION_ID, FORMAT, refusal
from sklearn_torch_bridge.cache._sqlite_errors import code_of

__all__ = ["check_is_cache", "is_on_network", "make_file", "to_uri"]

_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = {
    *("9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre"),
    *("nfs", "nfs4", "orangefs", "pvfs2", "smb3", "smbfs"),
}


def make_file(path: Path) -> None:
    """Create an empty file for this user alone, with its folders, where missing."""
    if path.exists():
        return
    target = Path(os.path.realpath(path))  # where a link may lead
    for folder in reversed(target.parents):
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)
    # SQLite gives its own files beside it the same mode.
    target.touch(mode=0o600)


def check_is_cache(path: Path) -> None:
    """Raise CacheError unless `path` is a cache of this format, or an empty file.

    Opened as immutable, the file is not locked, and journals of another database stay.
    SQLite must read it: to open and close it here would drop our locks on it.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise refusal(path, "it is no ordinary file")
    if status.st_size == 0:
        return
    with closing(sqlite3.connect(to_uri(path, immutable=True), uri=True)) as header:
        try:
            # Read also a file shorter than its header says: it may still be written.
            header.execute("PRAGMA writable_schema = ON")
            (application,) = header.execute("PRAGMA application_id").fetchone()
            (version,) = header.execute("PRAGMA user_version").fetchone()
        except sqlite3.DatabaseError as error:
            if code_of(error) != sqlite3.SQLITE_NOTADB:
                raise
            application = version = None
    if application != APPLICATION_ID:
        raise refusal(path, "the file there is something else")
    if version != FORMAT:
        reason = f"it has format {version}, and this version knows format {FORMAT}"
        raise refusal(path, reason)


def to_uri(path: Path, *, immutable: bool) -> str:
    """Return the URI of the file with which SQLite opens but never creates it."""
    return f"{path.as_uri()}?{'mode=ro&immutable=1' if immutable else 'mode=rw'}"


def is_on_network(path: Path) -> bool:
    """Return whether other hosts may see the file: known on Linux, elsewhere False."""
    try:
        mounts = _MOUNTS.read_text(errors="replace").splitlines()
    except OSError:
        return False
    device = path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    here = (mount for mount in mounts if mount.split()[2] == number)
    kinds = (mount.partition(" - ")[2].split()[0] for mount in here)
    return any(kind in _NETWORK or kind.startswith("fuse.") for kind in kinds)
