"""Digests of rows: of paths that the caller's own code is given, more than content."""

from typing import Any

from sklearn_torch_bridge._digest import (
    FilesBeside,
    content_digests,
    is_user_code,
    names_mentioned,
    rows_digest,
)
from sklearn_torch_bridge._errors import FingerprintError

__all__ = ["RowContents"]

_ELSEWHERE = {  # ways from a path to files that are not beside it
    *("parent", "parents", "dirname", "with_name", "with_stem", "joinpath", "replace"),
    *("glob", "iglob", "rglob", "iterdir", "listdir", "scandir", "walk", "relpath"),
    *("relative_to", "commonpath", "removeprefix", "removesuffix", "rsplit", "sub"),
}


class RowContents:
    """Digests of rows for a `preprocess`, which may be the caller's own code."""

    def __init__(self, preprocess: Any, cache_key: str | None) -> None:
        self._preprocess = preprocess
        self._cache_key = cache_key
        self._is_own = is_user_code(preprocess)

    def of_each(self, rows: Any) -> list[bytes]:
        """Return the digest of each row."""
        beside = self._files_beside()
        digests = content_digests(rows, beside=beside)
        self._check(beside)
        return digests

    def of_all(self, rows: Any) -> bytes:
        """Return one digest of all rows, in their order."""
        beside = self._files_beside()
        digest = rows_digest(rows, beside=beside)
        self._check(beside)
        return digest

    def _files_beside(self) -> FilesBeside | None:
        return FilesBeside() if self._is_own else None

    def _check(self, beside: FilesBeside | None) -> None:
        """Refuse code that may go from a path to files that no digest contains."""
        if beside is None or not beside.n_asked or self._cache_key is not None:
            return
        found = sorted(_ELSEWHERE & names_mentioned(self._preprocess))
        if found:
            msg = (
                "`preprocess` cannot be fingerprinted: it is given paths, and may go "
                f"from there to other files (`{found[0]}`), which no key contains. "
                "Give `cache_key`, a str that you change whenever one of those changes."
            )
            raise FingerprintError(msg)
