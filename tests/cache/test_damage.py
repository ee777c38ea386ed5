"""Whatever a cache file holds, a look-up gives what was put or nothing."""

import faulthandler
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from cache_rows import change_file, found, key, keys, put, vectors
from sklearn_torch_bridge import CacheError, CacheWarning, EmbeddingCache
from sklearn_torch_bridge.cache._row_layout import checksum_of


def read_row(cache, name):
    """Give layout, checksum and data of a row as they are in the file."""
    with closing(sqlite3.connect(cache.path)) as connection:
        connection.text_factory = lambda raw: raw.decode("latin-1")
        query = "SELECT layout, checksum, data FROM rows WHERE key = ?"
        return connection.execute(query, (name,)).fetchone()


def change_row(cache, name, column, value):
    """Set a column; text may hold surrogates, for bytes that are no UTF-8."""
    mark = "?"
    if isinstance(value, str):
        mark, value = "CAST(? AS TEXT)", value.encode("utf-8", "surrogateescape")
    update = f"UPDATE rows SET {column} = {mark} WHERE key = ?"  # noqa: S608 - ours
    assert change_file(cache, update, value, name) == 1


def seal(cache, name):
    """Give a row the checksum of what it says now, if it can have one."""
    layout, _, data = read_row(cache, name)
    if isinstance(layout, str) and isinstance(data, bytes):
        change_row(cache, name, "checksum", checksum_of(name, layout, data))


def flip(raw, bit):
    flipped = bytearray(raw)
    flipped[bit // 8] ^= 1 << (bit % 8)
    return bytes(flipped)


class TestFlippedBits:
    @pytest.mark.parametrize("bit", [0, 7, 100, 6143, 12287])
    def test_in_the_data(self, cache, bit):
        put(cache, [1, 2])
        (*_, data) = read_row(cache, key(1))
        change_row(cache, key(1), "data", flip(data, bit))
        assert found(cache, [1, 2]) == [2]

    @pytest.mark.parametrize("bit", range(32))
    def test_in_the_checksum(self, cache, bit):
        put(cache, [1, 2])
        (_, checksum, _) = read_row(cache, key(1))
        change_row(cache, key(1), "checksum", checksum ^ (1 << bit))
        assert found(cache, [1, 2]) == [2]

    @pytest.mark.parametrize("bit", range(64))
    def test_in_dtype_and_shape(self, cache, bit):
        put(cache, [1, 2])
        (layout, *_) = read_row(cache, key(1))
        flipped = flip(layout.encode(), bit).decode("utf-8", "surrogateescape")
        change_row(cache, key(1), "layout", flipped)
        assert found(cache, [1, 2]) == [2]

    @pytest.mark.parametrize("bit", [0, 63, 127])
    def test_in_the_key(self, cache, bit):
        """A row is under no other key than its own."""
        put(cache, [1, 2])
        change_row(cache, key(1), "key", flip(key(1), bit))
        assert cache.get_many([flip(key(1), bit), key(1)]) == [None, None]
        assert found(cache, [1, 2]) == [2]


@pytest.mark.parametrize("column", ["layout", "checksum", "data", "key"])
def test_rows_that_exchanged_a_value_are_misses(cache, column):
    put(cache, [1])
    cache.put_many(keys([2]), vectors([2])[:, :12].astype("f8"))
    if column == "key":
        change_row(cache, key(1), "key", key(3))
        change_row(cache, key(2), "key", key(1))
        change_row(cache, key(3), "key", key(2))
    else:
        place = ("layout", "checksum", "data").index(column)
        first, second = read_row(cache, key(1)), read_row(cache, key(2))
        change_row(cache, key(1), column, second[place])
        change_row(cache, key(2), column, first[place])
    assert cache.get_many(keys([1, 2])) == [None, None]


STRANGE = [
    *(("data", value) for value in (None, 7, 1.5, "text", "\udcff", b"", b"\0")),
    *(("checksum", value) for value in (None, "x", b"1234", 1.5, -1, 2**62)),
    *(("layout", value) for value in (None, 5, b"<f4[384,]", "", "[]", "<f4")),
    *(("layout", f"{kind}[1,]") for kind in ("|O8", "|V8", "<U4", "<M8", ">f4")),
    *(("layout", f"<f4[{shape}]") for shape in ("384", "-384,", "383,", "1,384")),
    *(("layout", f"<f4[{shape}]") for shape in ("٣٨٤,", "384,\n", "384,0,", "0,")),
    ("layout", "<f4[999999999,999999999,999999999,]"),
    ("layout", f"<f4[384,{'1,' * 70}]"),
    ("layout", "<f4[384,]\0"),
    ("layout", "\udcff\udcfe"),
]


@pytest.mark.parametrize(("column", "value"), STRANGE, ids=ascii)
@pytest.mark.parametrize("sealed", [False, True], ids=["", "right-checksum"])
def test_strange_values_are_misses_and_are_replaced(cache, column, value, sealed):
    """Also where somebody made the checksum fit."""
    put(cache, [1, 2])
    change_row(cache, key(1), column, value)
    if sealed and column != "checksum":
        seal(cache, key(1))
    out = np.zeros((2, 384), np.float32)
    assert cache.get_many(keys([1])) == [None]
    assert cache.get_into(keys([1, 2]), out).tolist() == [False, True]
    assert not out[0].any()
    put(cache, [1, 2])
    assert found(cache, [1, 2]) == [1, 2]
    assert len(cache) == 2


def test_a_row_of_no_bytes_has_one_shape(cache):
    """An empty row whose checksum fits, but of a shape that holds something."""
    cache.put_many(keys([1]), np.empty((1, 0), np.float32))
    assert cache.get_many(keys([1]))[0].shape == (0,)
    change_row(cache, key(1), "layout", "<f4[999999999,0,999999999,999999999,]")
    seal(cache, key(1))
    assert cache.get_many(keys([1])) == [None]


def test_text_that_holds_the_right_bytes_is_a_miss(cache):
    put(cache, [1])
    change_file(cache, "UPDATE rows SET data = CAST(data AS TEXT)")
    assert found(cache, [1]) == []


def test_strange_sizes_and_models_can_be_counted_and_pruned(cache):
    put(cache, range(4))
    for number, value in enumerate([None, "much", b"\0\1"]):
        change_row(cache, key(number), "n_bytes", value)
        change_row(cache, key(number), "model", value)
    stats = cache.stats()
    assert (stats["rows"], stats["bytes"]) == (4, 384 * 4)
    assert cache.prune(max_bytes=0) == 4


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
