"""Rows already embedded, kept in one file that many processes may share.

Hides the SQLite file: its tables, connections, locks and forks, how rows are stored
with checksums, and what is done about a damaged file, a full disk or a locked one.
"""

from sklearn_torch_bridge.cache._embedding_cache import EmbeddingCache

__all__ = ["EmbeddingCache"]

EmbeddingCache.__module__ = __name__  # under which it is pickled
