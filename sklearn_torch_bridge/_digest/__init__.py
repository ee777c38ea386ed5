"""Digests of values, rows and files: bytes that identify them, and the keys of a cache.

Two things have the same digest only if they are the same: the cache relies on it. So
what cannot be identified is an error, and in case of doubt (another order in a dict, a
docstring) digests differ, at the cost of computing a row once more.

Hides how values of each kind are turned into bytes: functions by their bytecode and
what it refers to, modules, tensors, objects as pickle sees them. What no code shows is
not seen: files, network and clock that a function reads, names that it computes, and
what was patched inside a library other than the methods of its classes.
"""

from sklearn_torch_bridge._digest._digest_value import digest, names_mentioned
from sklearn_torch_bridge._digest._file_digests import (
    FilesBeside,
    fingerprint_files,
)
from sklearn_torch_bridge._digest._found_values import (
    found_by_function,
    texts_in,
)
from sklearn_torch_bridge._digest._functions_and_classes import behaviour_of
from sklearn_torch_bridge._digest._library_or_user_code import is_user_code, library_of
from sklearn_torch_bridge._digest._object_state import attributes_of
from sklearn_torch_bridge._digest._reads_and_writes import names_in
from sklearn_torch_bridge._digest._row_keys import (
    cache_keys,
    content_digests,
    rows_digest,
)
from sklearn_torch_bridge._digest._without_effect import is_without_effect

__all__ = [
    "FilesBeside",
    "attributes_of",
    "behaviour_of",
    "cache_keys",
    "content_digests",
    "digest",
    "fingerprint_files",
    "found_by_function",
    "is_user_code",
    "is_without_effect",
    "library_of",
    "names_in",
    "names_mentioned",
    "rows_digest",
    "texts_in",
]
