"""What fails costs time, not rows: kills, forks, full disks, locks, interrupts."""

import gc
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

import cache_rows
from cache_rows import found, keys, put, vectors
from sklearn_torch_bridge import (
    CacheError,
    CacheWarning,
    EmbeddingCache,
)
from sklearn_torch_bridge.cache import _faults, _pool, _schema, _statements, _store

pytestmark = pytest.mark.faults

SCRIPT = Path(__file__).parents[1] / "cache_processes.py"


def run_script(*arguments, prefix=()):
    """Run a function of cache_processes.py, and show what it said if it fails."""
    run = subprocess.run(
        [*prefix, sys.executable, str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")


class TestProcesses:
    @pytest.mark.parametrize(
        "n_writers", [100, pytest.param(1000, marks=pytest.mark.slow)]
    )
    def test_writers_killed(self, quick_folder, n_writers):
        run_script("killed_writers", quick_folder, n_writers)

    def test_two_processes_at_once(self, quick_folder):
        run_script("processes_at_once", quick_folder, 2, 60)

    def test_eight_processes_at_once(self, quick_folder):
        run_script("processes_at_once", quick_folder, 8, 20)

    def test_another_process_makes_the_tables_meanwhile(self, cache, monkeypatch):
        transaction = _schema.transaction

        def begin_late(*args):
            monkeypatch.undo()
            with EmbeddingCache(cache.path) as other:
                put(other, [1])
            return transaction(*args)

        monkeypatch.setattr(_schema, "transaction", begin_late)
        put(cache, [2])
        assert found(cache, [1, 2]) == [1, 2]

    @pytest.mark.slow
    def test_two_hundred_readers_and_eight_writers(self, quick_folder):
        run_script("readers_and_writers", quick_folder, 200, 8)


class TestForks:
    def test_with_an_open_cache(self, quick_folder):
        run_script("fork_with_open_cache", quick_folder)

    def test_while_threads_read_and_write(self, quick_folder):
        run_script("fork_in_the_midst", quick_folder)

    def test_while_this_very_thread_uses_it(self, quick_folder):
        run_script("fork_in_use", quick_folder)


class TestDisks:
    def test_a_limit_on_the_size_of_files(self, tmp_path):
        run_script("size_limit", tmp_path)

    def test_a_full_disk(self, tmp_path):
        mount = f"mount -t tmpfs -o size=5m none {tmp_path}"
        unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
        if not shutil.which("unshare") or subprocess.call([*unshare, mount]):
            pytest.skip("needs unshare, and leave to mount a tmpfs in a namespace")
        prefix = [*unshare, f'{mount} && exec "$0" "$@"']
        run_script("small_disk", tmp_path, prefix=prefix)

    @pytest.mark.parametrize("what", ["file", "folder", "killed writer", "unreadable"])
    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become nobody")
    def test_read_only(self, what):
        # Not in `tmp_path`, which lies in a folder that nobody may enter.
        with tempfile.TemporaryDirectory() as folder:
            run_script("read_only", folder, what)


class TestLocks:
    @pytest.fixture
    def locked(self, cache, monkeypatch):
        """Lock a cache of one row against writing."""
        monkeypatch.setattr(_store, "_PATIENCE_SECONDS", 0.05)
        monkeypatch.setattr(_store, "_LITTLE_PATIENCE_SECONDS", 0.0)
        put(cache, [1])
        with closing(sqlite3.connect(cache.path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection

    def test_rows_are_not_stored_and_one_warning_tells(self, cache, locked):
        with pytest.warns(CacheWarning, match="is locked. Another process") as caught:
            put(cache, [2])
        put(cache, [3])
        assert len(caught) == 1
        assert caught[0].filename == cache_rows.__file__  # where it was asked to
        assert found(cache, [1, 2, 3]) == [1]
        locked.execute("ROLLBACK")
        put(cache, [2])
        assert found(cache, [1, 2, 3]) == [1, 2]

    def test_a_cache_that_waited_in_vain_waits_little(self, cache, locked):
        waits = []

        class Spy:
            def connection(self, *, create, patience_seconds):
                waits.append(patience_seconds)
                return pool.connection(create=create, patience_seconds=patience_seconds)

        pool, cache._store._pool = cache._store._pool, Spy()
        with pytest.warns(CacheWarning):
            put(cache, [2])
        found(cache, [1])
        put(cache, [2])
        locked.execute("ROLLBACK")
        put(cache, [2])
        put(cache, [3])
        cache._store._pool = pool
        assert waits == [0.05, 0, 0, 0, 0.05]

    def test_pruning_says_so(self, cache, locked):
        with pytest.raises(CacheError, match=r"cannot be used: .* is locked\. Another"):
            cache.prune(max_bytes=0)
        with pytest.raises(CacheError, match=r"cannot be used: .* is locked\. Another"):
            cache.clear()
        locked.execute("ROLLBACK")
        assert cache.prune(max_bytes=0) == 1

    def test_a_locked_file_in_rollback_mode_is_read_when_it_is_free(
        self, cache, locked
    ):
        """As on a network: a writer that is about to commit locks readers out."""
        locked.execute("ROLLBACK")
        cache.close()
        locked.execute("PRAGMA journal_mode = delete")
        locked.execute("BEGIN EXCLUSIVE")
        with pytest.warns(CacheWarning, match="could not be read") as caught:
            there = found(cache, [1]) + found(cache, [1])
        assert (there, len(caught)) == ([], 1)
        locked.execute("ROLLBACK")
        assert found(cache, [1]) == [1]


@pytest.mark.parametrize(
    "error",
    [MemoryError("so much"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "so odd")],
    ids=["size", "text"],
)
def test_what_a_damaged_file_brings_python_to_say_is_explained(error):
    assert _faults.explain(error).endswith("process uses it; it will be made anew.")


def test_a_fork_finds_and_leaves_no_connection_locked(cache):
    put(cache, [1])
    for _ in range(2):
        _pool._before_fork()
        _pool.gate.release()
        assert not any(one.lock.locked() for one in list(_pool._opened))
    assert found(cache, [1]) == [1]


class TestInterrupts:
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
        self, cache, error, begin, is_open
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

    @pytest.mark.parametrize("row", [0, 1, 9])
    def test_a_put_is_whole_or_not_at_all(self, cache, monkeypatch, row):
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

    def test_a_prune_is_whole_or_not_at_all(self, cache, monkeypatch):
        def interrupt(*_):
            raise KeyboardInterrupt

        put(cache, range(4))
        monkeypatch.setattr(_statements, "_last_to_go", interrupt)
        with pytest.raises(KeyboardInterrupt):
            cache.prune(older_than_seconds=0, max_bytes=0)
        assert found(cache, range(4)) == [0, 1, 2, 3]

    # One that was struck while it was opened or closed is left to the garbage
    # collector, which closes it and, from Python 3.13 on, says so.
    @pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
    @pytest.mark.parametrize("new_file", [False, True])
    def test_at_every_call(self, quick_folder, new_file):
        """Whole puts only, wherever it strikes, and nothing stays locked or open."""
        path = quick_folder / "0.db"
        cache = EmbeddingCache(path)
        put(cache, [0])
        for call in range(10**6):
            if new_file:
                cache.close()
                path = quick_folder / str(call) / "a.db"
                cache = EmbeddingCache(path)
            numbers = range(10 * call + 1, 10 * call + 5)
            if not interrupted(cache, keys(numbers), vectors(numbers), call):
                break
            assert not _pool.gate._is_owned()
            assert found(cache, numbers) in ([], list(numbers))
            put(cache, [10 * call])
            assert found(cache, [10 * call]) == [10 * call]
        assert call > 80
        cache.close()
        gc.collect()
        assert [file.name for file in path.parent.iterdir() if file.is_file()] == [
            path.name
        ]


def interrupted(cache, names, rows, call):
    """Put and get; interrupt the package's call of that number, if it comes to it."""
    calls = iter(range(call))

    def strike(frame, event, function):
        # Python takes care that no signal strikes between a block and its lock.
        leaving = event == "c_call" and function.__name__ in {"__exit__", "release"}
        inside = "sklearn_torch_bridge" in frame.f_code.co_filename and not leaving
        if inside and event in {"call", "c_call"} and next(calls, None) is None:
            sys.setprofile(None)
            raise KeyboardInterrupt

    sys.setprofile(strike)
    try:
        cache.put_many(names, rows)
        cache.get_many(names)
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
    return False
