"""Rows as bytes with a checksum: what is changed in a file is a miss."""

import sqlite3
from contextlib import closing

import numpy as np
import pytest

from cache_rows import change_file, found, key, keys, put, vectors
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


def test_a_note_is_kept_with_its_row_and_counts_for_its_checksum(cache):
    keys = [b"a" * 16, b"b" * 16]
    vectors = np.arange(4.0).reshape(2, 2)
    cache.put_many(keys, vectors, notes=["612/256tt", ""])
    notes, into = {}, {}
    found = cache.get_many(keys, notes=notes)
    np.testing.assert_array_equal(found, vectors)
    out = np.empty((3, 2))
    assert cache.get_into([*keys, b"c" * 16], out, notes=into).tolist() == [1, 1, 0]
    np.testing.assert_array_equal(out[:2], vectors)
    assert notes == into == {0: "612/256tt"}
    with sqlite3.connect(cache.path) as connection:
        connection.execute("UPDATE rows SET layout = '<f8[2,]' WHERE layout LIKE '%~%'")
    connection.close()
    assert cache.get_many(keys)[0] is None


def test_notes_are_one_a_row(cache):
    with pytest.raises(ValueError, match="one note for each of 2, got 1"):
        cache.put_many([b"a", b"b"], np.ones((2, 2)), notes=["x"])
