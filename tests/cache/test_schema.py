"""The tables of a cache file."""

import sqlite3

import pytest

from cache_rows import found, put
from sklearn_torch_bridge import (
    EmbeddingCache,
)
from sklearn_torch_bridge.cache import (
    _schema,
)


@pytest.mark.faults
def test_another_process_makes_the_tables_meanwhile(cache, monkeypatch):
    transaction = _schema.transaction

    def begin_late(*args):
        monkeypatch.undo()
        with EmbeddingCache(cache.path) as other:
            put(other, [1])
        return transaction(*args)

    monkeypatch.setattr(_schema, "transaction", begin_late)
    put(cache, [2])
    assert found(cache, [1, 2]) == [1, 2]


def test_the_journal_is_a_wal_with_large_pages(cache):
    put(cache, [1])
    connection = sqlite3.connect(cache.path)
    pragmas = ["journal_mode", "page_size", "auto_vacuum"]
    values = [connection.execute(f"PRAGMA {p}").fetchone()[0] for p in pragmas]
    connection.close()
    assert values == ["wal", 16384, 2]


def test_each_connection_distrusts_the_file(cache):
    put(cache, [1])
    with cache._store._connection(create=False) as connection:
        names = ["trusted_schema", "cell_size_check", "mmap_size", "synchronous"]
        values = [
            connection.execute(f"PRAGMA {name}").fetchone() or (0,) for name in names
        ]
    assert values == [(0,), (1,), (0,), (1,)]
