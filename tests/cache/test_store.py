"""What is wrong with a file costs time, not rows.

Damage, kills, forks, full disks, locks and interrupts: a look-up returns what was put
or nothing.
"""

import faulthandler
import gc
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import cache_rows
from cache_processes import run_script
from cache_rows import found, keys, put, vectors
from sklearn_torch_bridge import CacheError, CacheWarning, EmbeddingCache
from sklearn_torch_bridge.cache import (
    _connection_pool,
    _store,
)

PAGE = 16384


def damage_page(cache, number, start=0):
    """Overwrite a page of a closed cache."""
    cache.close()
    content = bytearray(Path(cache.path).read_bytes())
    place = PAGE * (number - 1) + start
    content[place : PAGE * number] = b"\xff" * (PAGE - start)
    Path(cache.path).write_bytes(content)


def test_a_damaged_page_costs_its_own_rows_and_one_warning(cache):
    put(cache, range(1000))
    cache.close()
    n_pages = Path(cache.path).stat().st_size // PAGE
    damage_page(cache, n_pages - 1)
    with pytest.warns(CacheWarning, match=r"malformed\. Delete it when") as told:
        there, again = (found(cache, range(1000)) for _ in range(2))
    assert len(told) == 1
    assert there == again
    assert 980 <= len(there) < 1000


def test_a_damaged_index_costs_all_rows_and_is_replaced_by_no_other(cache):
    put(cache, range(1000))
    with closing(sqlite3.connect(cache.path)) as connection:
        query = "SELECT rootpage FROM sqlite_master WHERE name LIKE 'sqlite_auto%'"
        ((page,),) = connection.execute(query).fetchall()
    damage_page(cache, page)
    with pytest.warns(CacheWarning, match="could not be read") as told:
        assert found(cache, range(1000)) == []
    put(cache, range(1000, 1010))
    assert len(told) == 1
    with pytest.raises(CacheError, match=r"cannot be used: .* malformed. Delete it"):
        cache.clear()


# Fuzz


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    return make_image(tmp_path_factory.mktemp("image") / "a.db")


def make_image(path):
    """Give the bytes of a cache and its journal, and what is in there."""
    chance = np.random.default_rng(0)
    content = {}
    with EmbeddingCache(path) as cache:
        for n_rows, shape, dtype in [
            *((30, (384,), "f4"), (30, (384,), "f4"), (40, (3,), "f8")),
            *((20, (2, 5), "u1"), (2, (5000,), "f8"), (3, (0,), "f4")),
        ]:
            names = [chance.bytes(16) for _ in range(n_rows)]
            rows = chance.integers(0, 255, (n_rows, *shape)).astype(dtype)
            cache.put_many(names, rows, model=chance.bytes(16))
            content |= dict(zip(names, rows, strict=True))
        cache.prune(max_bytes=cache.stats()["bytes"] * 0.9)
        cache.close()
        closed = path.read_bytes()
        names = [chance.bytes(16) for _ in range(20)]
        rows = chance.standard_normal((20, 384))
        cache.put_many(names, rows)
        content |= dict(zip(names, rows, strict=True))
        journal = Path(f"{path}-wal").read_bytes()
    return closed, journal, content


def flip_bits(raw, chance):
    for bit in chance.integers(0, 8 * len(raw), chance.integers(1, 9)):
        raw[bit // 8] ^= 1 << (bit % 8)


def write_bytes(raw, chance):
    for place in chance.integers(0, len(raw), chance.integers(1, 21)):
        raw[place] = chance.integers(0, 256)


def write_a_run(raw, chance):
    place, length = chance.integers(0, len(raw)), chance.integers(1, 3000)
    byte = chance.choice([0, 255, chance.integers(0, 256)])
    raw[place : place + length] = bytes([byte] * len(raw[place : place + length]))


def write_into_the_header(raw, chance):
    for place in chance.integers(0, 100, chance.integers(1, 4)):
        raw[place] = chance.integers(0, 256)


def write_into_a_page_header(raw, chance):
    page = chance.integers(0, max(1, len(raw) // PAGE)) * PAGE
    start = page + (100 if page == 0 else 0)
    for place in chance.integers(0, 40, chance.integers(1, 6)):
        raw[min(start + place, len(raw) - 1)] = chance.integers(0, 256)


def write_into_the_schema(raw, chance):
    place = raw.find(b"CREATE TABLE rows")
    if place >= 0:
        raw[place + chance.integers(-40, 200)] = chance.integers(0, 256)


def cut_off(raw, chance):
    del raw[chance.integers(0, len(raw)) :]


def append(raw, chance):
    raw += chance.bytes(chance.integers(1, 2 * PAGE))


def exchange_pages(raw, chance):
    one, two = chance.integers(0, max(1, len(raw) // PAGE), 2) * PAGE
    first, second = raw[one : one + PAGE], raw[two : two + PAGE]
    raw[two : two + PAGE], raw[one : one + PAGE] = first, second


def copy_a_run(raw, chance):
    source, target = chance.integers(0, len(raw), 2)
    run = raw[source : source + chance.integers(1, 3000)]
    raw[target : target + len(run)] = run[: len(raw) - target]


WAYS = [
    *(flip_bits, write_bytes, write_a_run, write_into_the_header),
    *(write_into_a_page_header, write_into_the_schema, cut_off, append),
    *(exchange_pages, copy_a_run),
]


def look_up_and_store(cache, content):
    """Use the cache in every way; each answer must be right, whatever the file is."""
    names = list(content)
    for row, expected in zip(cache.get_many(names), content.values(), strict=True):
        assert row is None or (row.dtype, row.shape) == (expected.dtype, expected.shape)
        assert row is None or row.tobytes() == expected.tobytes()
    for start in range(0, len(names), 20):
        alike = names[start : start + 20]
        rows = [content[name] for name in alike]
        if len({(row.dtype, row.shape) for row in rows}) == 1:
            out = np.full_like(np.array(rows), 77)
            there = cache.get_into(alike, out)
            assert np.array_equal(out[there], np.array(rows)[there])
            assert (out[~there] == 77).all()
            cache.put_many(alike, np.array(rows))


def check_damaged(path, content, chance):
    cache = EmbeddingCache(path)
    try:
        look_up_and_store(cache, content)
        look_up_and_store(cache, content)
        cache.stats()
        cache.prune(max_bytes=chance.integers(0, 10**5))
        look_up_and_store(cache, content)
        cache.clear()
    except CacheError:
        pass
    finally:
        cache.close()


@pytest.mark.filterwarnings("ignore::sklearn_torch_bridge.CacheWarning")
@pytest.mark.parametrize(
    ("seed", "n_cases"),
    [(0, 400), *(pytest.param(n, 4000, marks=pytest.mark.slow) for n in range(1, 8))],
)
def test_a_file_changed_at_random_gives_right_rows_or_none(
    quick_folder, image, seed, n_cases
):
    """Nothing else happens: no crash, no error but CacheError, no end of waiting."""
    chance = np.random.default_rng(seed)
    for case in range(n_cases):
        try_damaged(quick_folder / f"{case}.db", image, chance)


def try_damaged(path, image, chance):
    """Change a cache or its journal and use it, in a folder that is then emptied."""
    closed, journal, content = image
    file, its_journal = bytearray(closed), bytearray(journal)
    with_journal = chance.random() < 0.3
    for _ in range(chance.integers(1, 3)):
        way = WAYS[chance.integers(len(WAYS))]
        target = its_journal if with_journal and chance.random() < 0.6 else file
        if target:
            way(target, chance)
    path.write_bytes(file)
    if with_journal:
        Path(f"{path}-wal").write_bytes(its_journal)
    faulthandler.dump_traceback_later(60, exit=True)
    try:
        check_damaged(path, content, chance)
    finally:
        faulthandler.cancel_dump_traceback_later()
    for left in path.parent.iterdir():
        left.unlink()


@pytest.mark.faults
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

    @pytest.mark.slow
    def test_two_hundred_readers_and_eight_writers(self, quick_folder):
        run_script("readers_and_writers", quick_folder, 200, 8)


@pytest.mark.faults
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


@pytest.mark.faults
class TestLocks:
    @pytest.fixture
    def locked(self, cache, monkeypatch):
        """Lock a cache of one row against writing."""
        monkeypatch.setattr(_store, "_PATIENCE_SECONDS", 0.05)
        monkeypatch.setattr(_store, "_SHORT_PATIENCE_SECONDS", 0.0)
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


@pytest.mark.faults
class TestInterrupts:
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
            assert not _connection_pool.connections_lock._is_owned()
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
