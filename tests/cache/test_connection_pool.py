"""Connections: kept while they can be, closed before a fork."""

import sqlite3
import threading

import psutil
import pytest

from cache_processes import run_script
from cache_rows import found, put
from sklearn_torch_bridge.cache import (
    _connection_pool,
)


@pytest.mark.faults
class TestForks:
    def test_with_an_open_cache(self, quick_folder):
        run_script("fork_with_open_cache", quick_folder)

    def test_while_threads_read_and_write(self, quick_folder):
        run_script("fork_in_the_midst", quick_folder)

    def test_while_this_very_thread_uses_it(self, quick_folder):
        run_script("fork_in_use", quick_folder)


@pytest.mark.faults
def test_a_fork_finds_and_leaves_no_connection_locked(cache):
    put(cache, [1])
    for _ in range(2):
        _connection_pool._before_fork()
        _connection_pool.connections_lock.release()
        assert not any(one.lock.locked() for one in list(_connection_pool._opened))
    assert found(cache, [1]) == [1]


@pytest.mark.faults
@pytest.mark.parametrize(
    ("error", "begin", "is_open"),
    [
        (KeyboardInterrupt, "SELECT 1", False),
        (sqlite3.OperationalError, "SELECT 1", True),
        (sqlite3.OperationalError, "BEGIN", False),
    ],
    ids=["interrupt", "fault", "fault in a transaction"],
)
def test_a_connection_is_kept_after_a_fault_of_the_file_alone(
    cache, error, begin, is_open
):
    lent = []

    def use():
        with cache._store._connection(create=False) as connection:
            lent.append(connection)
            connection.execute(begin)
            raise error

    put(cache, [1])
    with pytest.raises(error, match=r"^$"):
        use()
    assert [connection.is_open for connection in lent] == [is_open]
    assert found(cache, [1]) == [1]


def test_threads_that_are_gone_leave_nothing_open(cache):
    def work(number, together):
        with cache._store._connection(create=False):
            together.wait()
        put(cache, [number])

    put(cache, [0])
    counts = []
    for start in range(0, 200, 20):
        together = threading.Barrier(20)
        threads = [
            threading.Thread(target=work, args=(start + n, together)) for n in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        counts.append(psutil.Process().num_fds())
    assert len(cache) == 200
    assert counts[-1] <= counts[0]
    # SQLite keeps descriptors for later while others of the file are open.
    assert len(cache._store._pool._idle) == 4
    cache.close()
    assert psutil.Process().num_fds() <= counts[0] - 2 * 4


def test_a_connection_out_when_the_cache_is_closed_is_closed_after(cache, cache_path):
    put(cache, [1])
    with cache._store._connection(create=False):
        cache.close()
    assert list(cache_path.parent.iterdir()) == [cache_path]
