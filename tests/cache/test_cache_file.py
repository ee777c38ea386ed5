"""A cache's file is the user's alone; what is no cache stays as it is."""

import os
import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cache_rows import change_file, found, keys, put, vectors
from sklearn_torch_bridge import CacheError, EmbeddingCache
from sklearn_torch_bridge.cache import _cache_file, _connection_pool


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


class TestFile:
    def test_the_file_and_new_folders_are_the_users_alone(self, tmp_path):
        (tmp_path / "old").mkdir(mode=0o755)
        cache = EmbeddingCache(tmp_path / "old" / "new" / "newer" / "a.db")
        umask = os.umask(0)
        try:
            put(cache, [1])
        finally:
            os.umask(umask)
        folder = tmp_path / "old" / "new"
        assert (mode(folder.parent), mode(folder), mode(folder / "newer")) == (
            *(0o755, 0o700, 0o700),
        )
        files = sorted((folder / "newer").iterdir())
        assert [file.name for file in files] == ["a.db", "a.db-shm", "a.db-wal"]
        assert {mode(file) for file in files} == {0o600}
        cache.close()

    def test_the_mode_of_a_file_that_is_there_stays(self, cache_path):
        cache_path.touch(mode=0o640)
        cache_path.chmod(0o640)
        with EmbeddingCache(cache_path) as cache:
            put(cache, [1])
            assert {mode(file) for file in cache_path.parent.iterdir()} == {0o640}

    def test_an_empty_file_becomes_a_cache(self, cache, cache_path):
        cache_path.touch()
        assert found(cache, [1]) == []
        assert cache_path.stat().st_size == 0
        put(cache, [1])
        assert found(cache, [1]) == [1]

    def test_a_link_leads_to_its_file(self, tmp_path):
        (tmp_path / "link.db").symlink_to(tmp_path / "far.db")
        for _ in range(2):  # at first the link hangs
            with EmbeddingCache(tmp_path / "link.db") as cache:
                put(cache, [1])
        with EmbeddingCache(tmp_path / "far.db") as cache:
            assert found(cache, [1]) == [1]
        assert (tmp_path / "link.db").is_symlink()

    @pytest.mark.parametrize("while_open", [True, False])
    def test_a_file_removed_is_made_anew(self, cache, cache_path, while_open):
        put(cache, [1])
        if not while_open:
            cache.close()
        for file in cache_path.parent.iterdir():
            file.unlink()
        assert found(cache, [1]) == []
        put(cache, [2])
        assert found(cache, [1, 2]) == [2]
        with EmbeddingCache(cache_path) as other:
            assert found(other, [1, 2]) == [2]

    def test_many_make_the_file_at_once(self, quick_folder):
        def work(path, number):
            with EmbeddingCache(path) as cache:
                if number % 2:
                    assert set(found(cache, range(8))) <= set(range(8))
                put(cache, [number])
                assert found(cache, [number]) == [number]

        with ThreadPoolExecutor(8) as pool:
            for file in range(25):
                path = quick_folder / f"{file}.db"
                list(pool.map(work, [path] * 8, range(8)))
                with EmbeddingCache(path) as cache:
                    assert found(cache, range(8)) == list(range(8))

    def test_a_file_in_the_making_is_known(self, cache, cache_path):
        """Its first page is there and the others are not."""
        put(cache, [1])
        cache.close()
        with cache_path.open("r+b") as file:
            file.truncate(16384)
        _cache_file.check_is_cache(cache_path)


class TestNetwork:
    @pytest.fixture
    def mount(self, tmp_path, monkeypatch):
        def mount(kind, device=None):
            number = tmp_path.stat().st_dev if device is None else device
            table = tmp_path / "mountinfo"
            table.write_text(
                "22 1 0:1 / /proc rw - proc proc rw\n"
                f"36 35 {os.major(number)}:{os.minor(number)} / /a\\040b rw master:1 - "
                f"{kind} host:/share rw\n"
            )
            monkeypatch.setattr(_cache_file, "_MOUNTS", table)

        return mount

    @pytest.mark.parametrize(
        ("kind", "journal"),
        [
            *(("ext4", "wal"), ("tmpfs", "wal"), ("fuseblk", "wal")),
            *(("nfs4", "delete"), ("cifs", "delete"), ("fuse.sshfs", "delete")),
        ],
    )
    def test_a_wal_is_for_one_host(self, cache, cache_path, mount, kind, journal):
        mount(kind)
        put(cache, range(5))
        assert found(cache, range(5)) == list(range(5))
        connection = sqlite3.connect(cache_path)
        assert connection.execute("PRAGMA journal_mode").fetchone() == (journal,)
        connection.close()
        assert (cache_path.parent / "embeddings.db-wal").exists() == (journal == "wal")

    def test_mounts_of_other_devices_do_not_matter(self, cache_path, mount):
        mount("nfs", device=os.makedev(0, 999))
        cache_path.touch()
        assert not _cache_file.is_on_network(cache_path)

    def test_without_a_list_of_mounts_the_disk_is_local(self, cache_path, monkeypatch):
        monkeypatch.setattr(_cache_file, "_MOUNTS", cache_path.parent / "missing")
        cache_path.touch()
        assert not _cache_file.is_on_network(cache_path)

    def test_a_cache_moved_to_a_network_changes_its_journal(
        self, cache, cache_path, mount
    ):
        put(cache, [1])
        cache.close()
        mount("nfs")
        put(cache, [2])
        assert found(cache, [1, 2]) == [1, 2]
        assert not (cache_path.parent / "embeddings.db-wal").exists()


def other_database(path, *, wal=False):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE rows (key, data)")
    connection.commit()
    if wal:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("INSERT INTO rows VALUES (1, 2)")
        connection.commit()
    return connection


def write_foreign(path, kind):
    """Put something at `path` that is no cache, and give what must stay open."""
    match kind:
        case "text":
            path.write_text("dear diary " * 10_000)
        case "few bytes":
            path.write_bytes(b"x")
        case "zeros":
            path.write_bytes(bytes(100_000))
        case "database":
            other_database(path).close()
        case "database in use":
            return other_database(path, wal=True)
        case "empty database":
            connection = sqlite3.connect(path)
            connection.execute("PRAGMA user_version = 1")
            connection.close()
        case "format 2":
            with EmbeddingCache(path) as cache:
                put(cache, [1])
                change_file(cache, "PRAGMA user_version = 2")
        case "more tables":
            with EmbeddingCache(path) as cache:
                put(cache, [1])
                change_file(cache, "CREATE VIEW v AS SELECT 1")
        case "a trigger":
            with EmbeddingCache(path) as cache:
                put(cache, [1])
                change_file(
                    cache,
                    "CREATE TRIGGER t AFTER INSERT ON rows BEGIN DELETE FROM rows; END",
                )
    return None


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        *((kind, "something else") for kind in ("text", "few bytes", "zeros")),
        *((f"{kind}database", "something else") for kind in ("", "empty ")),
        ("database in use", "something else"),
        ("format 2", "has format 2, and this version knows format 1"),
        *((kind, "tables are not those") for kind in ("more tables", "a trigger")),
    ],
    ids=lambda value: value.replace(" ", "-")[:20],
)
@pytest.mark.parametrize(
    "use",
    [
        lambda cache: cache.get_many(keys([1])),
        lambda cache: cache.get_into(keys([1]), vectors([1])),
        lambda cache: put(cache, [1]),
        len,
        lambda cache: cache.stats(),
        lambda cache: cache.prune(max_bytes=0),
        lambda cache: cache.clear(),
    ],
    ids=["get_many", "get_into", "put_many", "len", "stats", "prune", "clear"],
)
def test_what_is_no_cache_is_an_error_and_stays(cache_path, kind, words, use):
    held = write_foreign(cache_path, kind)
    before = {file: file.read_bytes() for file in cache_path.parent.iterdir()}
    cache = EmbeddingCache(cache_path)
    words = f"{words}.*left as it is; give another path"
    with pytest.raises(CacheError, match=words) as failure:
        use(cache)
    # A fork would wait for a connection that is locked, as long as it lives: here in
    # the frames of the error.
    assert not any(
        connection.lock.locked() for connection in list(_connection_pool._opened)
    )
    del failure
    cache.close()
    assert {file: file.read_bytes() for file in cache_path.parent.iterdir()} == before
    if held:
        held.close()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_file_is_an_error(cache_path, make):
    make(cache_path)
    with pytest.raises(CacheError, match="no ordinary file"):
        put(EmbeddingCache(cache_path), [1])
    with pytest.raises(CacheError, match="no ordinary file"):
        found(EmbeddingCache(cache_path), [1])
