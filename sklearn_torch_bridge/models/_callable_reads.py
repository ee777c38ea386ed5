"""What a callable that makes a module reads: once that is other, it is called again."""

import os
import stat
from functools import partial
from pathlib import Path
from typing import Any

from sklearn_torch_bridge.models._file_state import FileState, is_result
from sklearn_torch_bridge.models._hub_files import is_saved_model, tree_of_files
from sklearn_torch_bridge.models._values_reached import ValuesReached

__all__ = ["CallableReads"]

_LONGEST_NAME = 255  # of a file
_MOST_NAMES = 200  # that are looked at


class CallableReads:
    """The values and files that the code of a callable finds now."""

    def __init__(self, model: Any) -> None:
        reached = ValuesReached(model)
        self._seen = reached.seen
        self._names = _names(reached.texts)
        self.files = FileState(partial(_files, self._names))

    def are_current(self, model: Any) -> bool:
        """Return whether the callable finds the same values, and the files as then."""
        now = ValuesReached(model)
        return now.seen == self._seen and self.files.is_current()

    def leave_out_changed(self, before: "CallableReads") -> None:
        """Leave out files that the callable itself writes to, such as a log.

        They are others than `before` it was called.
        """
        was, now = before.files.seen or {}, self.files.seen or {}
        written = {path for path in was if now.get(path) != was[path]}
        names = [name for name in self._names if name not in written]
        if len(names) < len(self._names):
            self._names = names
            self.files = FileState(partial(_files, names))


def _names(texts: list[str]) -> list[str]:
    """List the texts that may name files, and those that name one in a folder named."""
    may_be = (one for one in texts if 0 < len(one) <= _LONGEST_NAME and "\n" not in one)
    names = list(dict.fromkeys(may_be))[:_MOST_NAMES]
    kinds = {name: _kind(name) for name in names}
    folders = [name for name in names if kinds[name] == stat.S_IFDIR]
    files = (name for name in names if kinds[name] == stat.S_IFREG)
    folders += map(os.path.dirname, files)
    joined = (
        os.path.join(folder, name)  # noqa: PTH118 - a third of the time
        for folder in dict.fromkeys(folders)
        for name in names
        if folder and not kinds[name]
    )
    names += [name for name in joined if _kind(name)]
    return [name for name in names if kinds.get(name) != stat.S_IFREG or _counts(name)]


def _counts(name: str) -> bool:
    """Return whether a file is no cache, which the model itself may fill."""
    return name.endswith(".npy") or not is_result(Path(name))


def _files(names: list[str]) -> list[Path]:
    """List the files of these names, and those in folders with a saved model."""
    found: list[Path] = []
    for name in names:
        kind = _kind(name)
        if kind == stat.S_IFREG:
            found.append(Path(name))
        elif kind == stat.S_IFDIR and is_saved_model(Path(name)):
            found += tree_of_files(Path(name))
    return found


def _kind(name: str) -> int:
    """Return what a name stands for, as `stat` has it; 0 for nothing."""
    try:
        return stat.S_IFMT(os.stat(name).st_mode)  # noqa: PTH116 - as above
    except (OSError, ValueError):  # too long, or with a null character
        return 0
