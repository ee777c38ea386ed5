"""Bytes that identify a row, and a model with its settings.

Two things have one digest only if they are the same: that is the promise of the
cache. So what cannot be identified is an error, and where in doubt (another order in
a dict, a docstring) digests differ, at the cost of computing once more.

What no code shows is not seen: the files, the network and the clock that a function
reads, names that it computes, and what was patched inside a library other than the
methods of its classes.
"""

from sklearn_torch_bridge._digest._file_digests import fingerprint_files
from sklearn_torch_bridge._digest._row_keys import row_keys, rows_digest
from sklearn_torch_bridge._digest._values import digest

__all__ = [
    "digest",
    "fingerprint_files",
    "row_keys",
    "rows_digest",
]
