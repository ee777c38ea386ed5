"""The SQL statements."""

import sqlite3

import pytest

from cache_rows import found, key, put
from sklearn_torch_bridge import EmbeddingCache
from sklearn_torch_bridge.cache import (
    _connection_pool,
    _statements,
)
from tests.cache.test_row_layout import change_row


def test_strange_sizes_and_models_can_be_counted_and_pruned(cache):
    put(cache, range(4))
    for number, value in enumerate([None, "much", b"\0\1"]):
        change_row(cache, key(number), "n_bytes", value)
        change_row(cache, key(number), "model", value)
    stats = cache.stats()
    assert (stats["rows"], stats["bytes"]) == (4, 384 * 4)
    assert cache.prune(max_bytes=0) == 4


@pytest.mark.faults
@pytest.mark.parametrize("row", [0, 1, 9])
def test_a_put_is_whole_or_not_at_all(cache, monkeypatch, row):
    put(cache, [1])
    rows = iter(range(10))
    checksum_of = _statements.checksum_of

    def interrupt(*args):
        if next(rows) == row:
            raise KeyboardInterrupt
        return checksum_of(*args)

    monkeypatch.setattr(_statements, "checksum_of", interrupt)
    with pytest.raises(KeyboardInterrupt):
        put(cache, range(2, 12))
    monkeypatch.undo()
    assert found(cache, range(12)) == [1]
    with EmbeddingCache(cache.path) as other:
        put(other, range(2, 12))
    assert found(cache, range(12)) == list(range(1, 12))


@pytest.mark.faults
def test_a_prune_is_whole_or_not_at_all(cache, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    put(cache, range(4))
    monkeypatch.setattr(_statements, "_last_to_delete", interrupt)
    with pytest.raises(KeyboardInterrupt):
        cache.prune(older_than_seconds=0, max_bytes=0)
    assert found(cache, range(4)) == [0, 1, 2, 3]


def test_no_statement_binds_more_than_500_keys(cache, monkeypatch):
    put(cache, range(3))
    lengths = []

    def spy(connection, sql, values=()):
        lengths.append(len(values))
        return sqlite3.Connection.execute(connection, sql, values)

    monkeypatch.setattr(_connection_pool._Connection, "execute", spy, raising=False)
    assert len(found(cache, range(1201))) == 3
    assert max(lengths) == 500


def test_counting_does_not_walk_over_the_data(cache):
    put(cache, [1])
    connection = sqlite3.connect(cache.path)
    query = "SELECT COUNT(*), SUM(n_bytes), COUNT(DISTINCT model) FROM rows"
    plan = connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
    connection.close()
    assert "USING COVERING INDEX ages" in str(plan)
