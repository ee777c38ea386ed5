"""Processes that share a cache or are killed with it open, and how tests run them.

A script of its own, since a test run has threads that a fork would lose. Called with
the name of a function and its arguments, each of which asserts what must hold.
"""

import contextlib
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import traceback
import types
import warnings
from pathlib import Path

from cache_rows import found, put

if __name__ == "__main__":
    # Without its `__init__`, which would import torch and take seconds. Not where
    # pytest looks for doctests.
    package = types.ModuleType("sklearn_torch_bridge")
    package.__path__ = [str(Path(__file__).parents[1] / package.__name__)]
    sys.modules[package.__name__] = package

from sklearn_torch_bridge._errors import CacheError, CacheWarning
from sklearn_torch_bridge.cache import EmbeddingCache, _connection_pool

BATCH = 16


def run_script(*arguments, prefix=()):
    """Run a function of this file in a process, and show what it said if it fails."""
    run = subprocess.run(
        [*prefix, sys.executable, __file__, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")


def fork(work, *args):
    """Run `work` in a child that ends without a word if all is well."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work(*args)
            code = 0
        except BaseException:  # noqa: BLE001 - a child must not go on as its parent
            traceback.print_exc()
        os._exit(code)
    return pid


def join(*pids):
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert codes == [0] * len(pids), codes


class Signal:
    """One process waits for another; also for its end."""

    def __init__(self):
        self.reader, self.writer = os.pipe()

    def give(self):
        os.write(self.writer, b".")

    def wait(self):
        assert os.read(self.reader, 1) == b"."


# kill -9


def kill_after(chance):
    """Kill this process at a random call, or when a thread has made some steps.

    Early or late alike: the first hundred calls make the file.
    """
    scale = 10 ** chance.uniform(0, 4)
    if chance.random() < 0.5:
        calls = iter(range(int(2 * scale)))

        def count(*_):
            if next(calls, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(count)
    else:
        steps = int(1000 * scale)

        def spin():
            for _ in range(steps):
                pass
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=spin).start()


def write_until_killed(path, seed, start, acknowledge):
    chance = random.Random(seed)  # noqa: S311 - seeded
    kill_after(chance)
    cache = EmbeddingCache(path)
    for batch in range(10**6):
        numbers = range(start + batch * BATCH, start + (batch + 1) * BATCH)
        put(cache, numbers)
        os.write(acknowledge, b".")
        if chance.random() < 0.2:
            assert found(cache, numbers) == list(numbers)
        if chance.random() < 0.1:
            cache.close()


def killed_writers(folder, n_writers, together=4):
    """Rows that a killed writer was told are stored are there, and no half batch."""
    committed = 0
    for wave in range(int(n_writers) // together):
        path = Path(folder) / f"{wave // 2}.db"  # killed in the making, and later
        writers = []
        for writer in range(together):
            seed = wave * together + writer
            reader, acknowledge = os.pipe()
            start = seed * 10**6
            pid = fork(write_until_killed, path, seed, start, acknowledge)
            os.close(acknowledge)
            writers.append((pid, start, reader))
        with EmbeddingCache(path) as cache:
            total = 0
            for pid, start, reader in writers:
                acks = 0
                while chunk := os.read(reader, 4096):
                    acks += len(chunk)
                os.close(reader)
                status = os.waitpid(pid, 0)[1]
                assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
                n_told = acks * BATCH
                there = found(cache, range(start, start + n_told + 2 * BATCH))
                n_there = len(there)
                assert there == list(range(start, start + n_there))
                assert n_there in (n_told, n_told + BATCH)
                total += n_there
                committed += n_told
            put(cache, [-wave])  # no lock is left: it would wait for a minute
            assert found(cache, [-wave]) == [-wave]
        with contextlib.closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert committed > 10 * BATCH


# Processes at once


def write_and_read(path, seed, n_rounds):
    chance = random.Random(seed)  # noqa: S311 - seeded
    cache = EmbeddingCache(path)
    for _ in range(n_rounds):
        start = chance.randrange(300)
        numbers = range(start, start + 20)
        found(cache, range(0, 320, 7))
        put(cache, numbers)
        assert found(cache, numbers) == list(numbers)
        if chance.random() < 0.2:
            cache.close()
    cache.close()


def processes_at_once(folder, n_processes, n_rounds):
    path = Path(folder) / "a.db"
    seeds = range(int(n_processes))
    join(*(fork(write_and_read, path, seed, int(n_rounds)) for seed in seeds))
    with EmbeddingCache(path) as cache:
        assert len(cache) == len(found(cache, range(320)))
    assert [file.name for file in Path(folder).iterdir()] == ["a.db"]


def read_for_long(path, seed, n_rounds):
    chance = random.Random(seed)  # noqa: S311 - seeded
    with EmbeddingCache(path) as cache:
        for _ in range(n_rounds):
            numbers = chance.sample(range(1000), 50)
            known = [number for number in numbers if number < 500]
            assert [n for n in found(cache, numbers) if n < 500] == known


def write_for_long(path, seed, n_rounds):
    with EmbeddingCache(path) as cache:
        for round_ in range(n_rounds):
            start = 500 + seed * 10**6 + round_ * 10
            put(cache, range(start, start + 10))


def readers_and_writers(folder, n_readers, n_writers):
    """Half of them processes, half of them threads of one."""
    path = Path(folder) / "a.db"
    with EmbeddingCache(path) as cache:
        put(cache, range(500))
    works = [(read_for_long, path, n, 10) for n in range(int(n_readers))]
    works += [(write_for_long, path, n, 50) for n in range(int(n_writers))]
    failures = []

    def guarded(work, *args):
        try:
            work(*args)
        except BaseException as error:  # noqa: BLE001 - told by the parent
            failures.append(error)

    pids = [fork(*work) for work in works[::2]]
    threads = [threading.Thread(target=guarded, args=work) for work in works[1::2]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    join(*pids)
    assert failures == []
    with EmbeddingCache(path) as cache:
        assert len(cache) == 500 + int(n_writers) * 50 * 10


# fork


def child_after_parent(cache, opened, closed, done):
    assert found(cache, [1]) == [1]
    opened.give()
    closed.wait()
    put(cache, [3])
    assert found(cache, [1, 3]) == [1, 3]
    done.give()


def fork_with_open_cache(folder):
    """What a child stores outlives its parent's and others' openings.

    A child that inherits a connection believes that it holds its locks: the last
    other process to close then removes the journal that the child writes to.
    """
    cache = EmbeddingCache(Path(folder) / "a.db")
    put(cache, [1])
    opened, closed, done = Signal(), Signal(), Signal()
    pid = fork(child_after_parent, cache, opened, closed, done)
    opened.wait()
    cache.close()
    with EmbeddingCache(cache.path) as other:
        put(other, [2])
    closed.give()
    done.wait()
    join(pid)
    assert found(cache, [1, 2, 3]) == [1, 2, 3]
    assert len(cache) == 3


def put_by_a_thread(cache, numbers):
    """As the thread that forked may take again what it holds, and no other may."""
    thread = threading.Thread(target=put, args=(cache, numbers), daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()


def fork_in_the_midst(folder):
    """Threads go on, children work, and no lock stays locked in a child."""
    cache = EmbeddingCache(Path(folder) / "a.db")
    put(cache, range(100))
    stop = threading.Event()
    rounds = [0] * 4

    def work(number):
        while not stop.is_set():
            start = 1000 * (number + 1) + 10 * (rounds[number] % 50)
            put(cache, range(start, start + 10))
            assert found(cache, range(100)) == list(range(100))
            rounds[number] += 1

    threads = [
        threading.Thread(target=work, args=(number,), daemon=True)
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for child in range(20):
        join(fork(write_for_long, cache.path, 10 + child, 2))
        join(fork(put_by_a_thread, cache, [10**9 + child]))
    stop.set()
    for thread in threads:
        thread.join()
    assert all(rounds)
    there = [10**9 + child for child in range(20)]
    assert found(cache, there) == there


def fork_in_use(folder):
    """A fork in a signal handler, of all places, while a connection is lent."""
    _connection_pool._FORK_SECONDS = 0.01
    cache = EmbeddingCache(Path(folder) / "a.db")
    put(cache, [1])
    with cache._store._connection(create=False) as connection:
        join(fork(found, EmbeddingCache(cache.path), [1]))
        assert connection.execute("SELECT COUNT(*) FROM rows").fetchone() == (1,)


# Disks and permissions


def one_warning(caught, words):
    assert [entry.category for entry in caught] == [CacheWarning], caught
    assert words in str(caught[0].message), caught[0].message


def fill(cache, n_rows=2000):
    """Store until it fails, and some more; give the rows that are there after all."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for start in range(0, n_rows, BATCH):
            put(cache, range(start, start + BATCH))
        there = found(cache, range(n_rows))
    return caught, there


def full_disk(folder, words):
    """Rows that were stored stay, one warning is given, and room is used again."""
    path = Path(folder) / "a.db"
    cache = EmbeddingCache(path)
    caught, there = fill(cache)
    one_warning(caught, words)
    assert len(there) > 100
    assert len(there) % BATCH == 0
    assert there == list(range(len(there)))
    pid = os.fork()
    if pid == 0:  # a process that finds the disk full
        other = EmbeddingCache(path)
        caught, again = fill(other)
        one_warning(caught, words)
        assert set(again) >= set(there), (len(again), len(there))
        os._exit(0)
    join(pid)
    assert set(found(cache, range(2000))) >= set(there)
    for ballast in Path(folder).glob("ballast*"):
        ballast.unlink()
    resource.setrlimit(
        resource.RLIMIT_FSIZE, resource.getrlimit(resource.RLIMIT_FSIZE)[1:] * 2
    )
    put(cache, [5000])
    assert found(cache, [5000]) == [5000]
    cache.close()
    with EmbeddingCache(path) as other:
        assert set(found(other, range(2000))) >= set(there)


def size_limit(folder):
    limit = 4_000_000
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    full_disk(folder, "disk I/O error")


def small_disk(folder):
    """On a disk of 5 MB, mounted at `folder`, with something else to remove."""
    (Path(folder) / "ballast").write_bytes(bytes(1_000_000))
    full_disk(folder, "database or disk is full. Free some space on its disk.")


def read_only(folder, what):
    """Rows are read, and one warning tells that none are stored."""
    base = Path(folder)
    base.chmod(0o755)
    place = base / "place"
    place.mkdir()
    path = place / "a.db"
    cache = EmbeddingCache(path)
    put(cache, range(10))
    cache.close()
    path.chmod({"unreadable": 0o000, "file": 0o444}.get(what, 0o644))
    place.chmod(0o755)
    if what == "file":
        place.chmod(0o777)
    if what == "killed writer":
        leave_journal(path)
    pid = os.fork()
    if pid == 0:
        os.setuid(65534)  # nobody; root may write everywhere
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            check_read_only(path, what)
        told = [str(entry.message) for entry in caught]
        assert [entry.category for entry in caught] == [CacheWarning], told
        assert "Make the file and its folder" in told[0], told
        os._exit(0)
    join(pid)
    path.chmod(0o600)
    assert found(cache, range(12)) == list(range(10))


def leave_journal(path):
    """Leave the journal of a writer that was killed."""

    def write_and_die():
        cache = EmbeddingCache(path)
        put(cache, [10**6])
        os.kill(os.getpid(), signal.SIGKILL)

    os.waitpid(fork(write_and_die), 0)
    Path(f"{path}-shm").unlink()


def check_read_only(path, what):
    stored = [] if what == "unreadable" else list(range(10))
    cache = EmbeddingCache(path)
    for _ in range(2):
        assert found(cache, range(12)) == stored
        put(cache, [10, 11])
    try:
        assert len(cache) == 10
    except CacheError:
        assert what == "unreadable"
    missing = EmbeddingCache(path.parent / "other" / "b.db")
    if what == "folder":
        assert found(missing, [1]) == []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            put(missing, [1])
            put(missing, [1])
        one_warning(caught, "Permission denied")
        assert len(missing) == 0
    for call in (cache.clear, lambda: cache.prune(max_bytes=0)):
        try:
            call()
        except CacheError as error:
            assert "Make the file and its folder" in str(error)  # noqa: PT017 - a script, without pytest
        else:
            raise AssertionError
    cache.close()


if __name__ == "__main__":
    warnings.simplefilter("error")
    name, *arguments = sys.argv[1:]
    globals()[name](*arguments)
