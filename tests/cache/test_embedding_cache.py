"""What is put is what is got, or nothing."""

import copy
import gc
import pickle
import tempfile
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sklearn.base import BaseEstimator, clone

from cache_rows import change_file, found, key, keys, put, vectors
from sklearn_torch_bridge import EmbeddingCache
from sklearn_torch_bridge.cache import _connection_pool

KINDS = st.one_of(
    npst.boolean_dtypes(),
    npst.integer_dtypes(endianness="?"),
    npst.unsigned_integer_dtypes(endianness="?"),
    npst.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    npst.complex_number_dtypes(endianness="?", sizes=(64, 128)),
)
SHAPES = npst.array_shapes(min_dims=1, max_dims=5, min_side=0, max_side=4)
# A folder of its own for each example is made by hand.
one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


class TestRoundTrip:
    @one_folder
    @given(vectors=npst.arrays(KINDS, SHAPES), order=st.sampled_from("CF"))
    def test_any_dtype_and_shape(self, tmp_path, vectors, order):
        number = len(list(tmp_path.iterdir()))
        cache = EmbeddingCache(tmp_path / f"{number}.db")
        names = keys(range(len(vectors)))
        cache.put_many(names, np.asarray(vectors, order=order))
        native = vectors.astype(vectors.dtype.newbyteorder("="))
        out = np.zeros_like(native, order="C")
        assert cache.get_into(names, out).all()
        assert out.tobytes() == native.tobytes()
        for row, expected in zip(cache.get_many(names), native, strict=True):
            assert (row.dtype, row.shape) == (native.dtype, native.shape[1:])
            assert row.tobytes() == expected.tobytes()
        cache.close()

    def test_rows_may_be_strided_and_read_only(self, cache):
        wide = vectors(range(8))
        wide.flags.writeable = False
        cache.put_many(keys(range(4)), wide[::2, ::3])
        out = np.empty_like(wide[::2, ::3], order="C")
        assert cache.get_into(keys(range(4)), out).all()
        assert np.array_equal(out, wide[::2, ::3])

    def test_a_look_up_is_in_the_order_of_its_keys(self, cache):
        put(cache, range(10))
        wanted = [7, 99, 2, 7, 7, 98, 0]
        assert found(cache, wanted) == [7, 2, 7, 7, 0]
        out = np.full((7, 384), -1, np.float32)
        there = cache.get_into(keys(wanted), out)
        assert there.dtype == bool
        assert there.tolist() == [True, False, True, True, True, False, True]
        assert np.array_equal(out[there], vectors([7, 2, 7, 7, 0]))
        assert (out[~there] == -1).all()

    def test_more_keys_than_a_statement_takes(self, cache):
        put(cache, range(1700))
        assert found(cache, range(2, 1999)) == list(range(2, 1700))

    def test_nothing_to_do(self, cache, cache_path):
        cache.put_many([], np.empty((0, 3)))
        assert not cache_path.exists()
        assert cache.get_many([]) == []
        assert cache.get_into([], np.empty((0, 3))).tolist() == []
        assert cache.get_into(keys([1]), np.empty((1, 0))).tolist() == [False]

    def test_what_was_stored_first_stays(self, cache):
        put(cache, [1])
        cache.put_many(keys([1, 2]), vectors([5, 2]))
        assert found(cache, [1, 2]) == [1, 2]

    def test_the_same_key_twice_in_one_call(self, cache):
        cache.put_many(keys([1, 1]), vectors([1, 5]))
        assert found(cache, [1]) == [1]

    def test_rows_got_are_read_only(self, cache):
        put(cache, [1])
        (row,) = cache.get_many(keys([1]))
        assert not row.flags.writeable

    @pytest.mark.parametrize(
        "out",
        [
            np.zeros((1, 383), "f4"),
            np.zeros((1, 384), "f8"),
            np.zeros((1, 2, 192), "f4"),
        ],
        ids=["width", "dtype", "shape"],
    )
    def test_a_row_of_another_kind_is_not_found_and_then_replaced(self, cache, out):
        put(cache, [1])
        assert not cache.get_into(keys([1]), out).any()
        assert not out.any()
        cache.put_many(keys([1]), out + 1)
        assert cache.get_into(keys([1]), out).all()
        assert (out == 1).all()
        assert len(cache) == 1


class TestArguments:
    @pytest.mark.parametrize("dtype", ["O", "U3", "S3", "M8[s]", "V8", "g", "G"])
    def test_other_dtypes_are_refused(self, cache, dtype):
        with pytest.raises(TypeError, match=r"dtypes bool, int8, .* complex128, got"):
            cache.put_many(keys([1]), np.zeros((1, 2), dtype))

    def test_keys_must_be_bytes(self, cache):
        with pytest.raises(TypeError, match="`keys` must be bytes, got str"):
            cache.put_many([b"1", "2"], np.zeros((2, 1)))
        with pytest.raises(TypeError, match="`keys` must be bytes, got bytearray"):
            cache.get_many([bytearray(b"1")])
        with pytest.raises(TypeError, match="`keys` must be bytes, got int"):
            cache.get_into([1], np.zeros((1, 1)))

    @pytest.mark.parametrize("shape", [(), (1, 2), (3, 2)])
    def test_there_must_be_one_row_a_key(self, cache, shape):
        with pytest.raises(ValueError, match=r"each of the 2 keys, got .* shape \("):
            cache.put_many(keys([1, 2]), np.zeros(shape))
        with pytest.raises(ValueError, match=r"each of the 2 keys, got .* shape \("):
            cache.get_into(keys([1, 2]), np.zeros(shape))

    def test_out_must_be_contiguous(self, cache):
        with pytest.raises(ValueError, match="`out` must be C-contiguous"):
            cache.get_into(keys([1, 2]), np.zeros((2, 4))[:, ::2])

    def test_out_must_be_writable(self, cache):
        put(cache, [1])
        out = np.zeros((1, 384), np.float32)
        out.flags.writeable = False
        with pytest.raises(ValueError, match=r"`out` must be .* writable"):
            cache.get_into(keys([1]), out)

    def test_out_must_be_in_native_byte_order(self, cache):
        with pytest.raises(TypeError, match="got >"):
            cache.get_into(keys([1]), np.zeros((1, 2), ">f4"))

    @pytest.mark.parametrize("path", ["", ":memory:"])
    def test_the_path_must_name_a_file(self, path):
        with pytest.raises(ValueError, match="`path` must name a file, got"):
            EmbeddingCache(path)

    @pytest.mark.parametrize("path", [None, 3, b"bytes.db"])
    def test_the_path_must_be_a_path(self, path):
        with pytest.raises(TypeError):
            EmbeddingCache(path)


class TestObject:
    def test_making_one_looks_at_nothing(self, tmp_path):
        EmbeddingCache(tmp_path / "missing" / "a.db")
        EmbeddingCache(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_reading_makes_no_file(self, cache, cache_path):
        assert found(cache, [1]) == []
        assert len(cache) == 0
        assert cache.prune(max_bytes=0) == 0
        cache.clear()
        numbers = {"rows": 0, "bytes": 0, "hits": 0, "misses": 1, "models": 0}
        assert cache.stats() == numbers
        assert not cache_path.exists()

    def test_a_clone_is_the_same(self, cache):
        class Estimator(BaseEstimator):
            def __init__(self, cache=None):
                self.cache = cache

        estimator = Estimator(cache)
        assert estimator.get_params() == {"cache": cache}
        assert clone(estimator).cache is cache
        assert clone(cache) is cache
        assert copy.deepcopy(cache) is cache
        assert copy.copy(cache) is cache
        assert "embeddings.db" in repr(estimator)

    def test_a_pickle_is_the_path(self, cache):
        put(cache, range(3))
        assert found(cache, [1]) == [1]
        pickled = pickle.dumps(cache)
        assert len(pickled) < 200 + len(cache.path)
        twin = pickle.loads(pickled)  # noqa: S301 - made here
        assert twin == cache
        assert hash(twin) == hash(cache)
        assert twin.stats()["hits"] == 0
        assert found(twin, range(4)) == [0, 1, 2]
        twin.close()

    def test_its_home_is_the_public_module(self, cache):
        """Pickles name it, and outlive the file that it is defined in."""
        assert EmbeddingCache.__module__ == "sklearn_torch_bridge.cache"
        assert b"sklearn_torch_bridge.cache" in pickle.dumps(cache)
        assert b"_embedding_cache" not in pickle.dumps(cache)

    def test_caches_are_equal_by_path(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert EmbeddingCache("a.db") == EmbeddingCache(tmp_path / "x" / ".." / "a.db")
        assert EmbeddingCache("a.db") != EmbeddingCache("b.db")
        assert EmbeddingCache("a.db") != str(tmp_path / "a.db")
        assert repr(EmbeddingCache("a.db")) == f"EmbeddingCache('{tmp_path}/a.db')"

    def test_a_relative_path_stays_where_it_was_given(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        cache = EmbeddingCache("a.db")
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        put(cache, [1])
        cache.close()
        assert (tmp_path / "a.db").exists()

    @pytest.mark.parametrize("name", ["a b?c=d&e#f%20.db", "ü-日本.db", "'\";--.db"])
    def test_the_name_may_hold_any_characters(self, tmp_path, name):
        with EmbeddingCache(tmp_path / name) as cache:
            put(cache, [1])
            assert found(cache, [1]) == [1]
        assert [file.name for file in tmp_path.iterdir()] == [name]

    def test_closing_leaves_one_file_and_another_use_opens_it(self, cache, cache_path):
        put(cache, [1])
        cache.close()
        assert list(cache_path.parent.iterdir()) == [cache_path]
        assert found(cache, [1]) == [1]
        with cache:
            put(cache, [2])
        assert list(cache_path.parent.iterdir()) == [cache_path]
        cache.close()
        assert found(cache, [1, 2]) == [1, 2]

    def test_the_last_reference_closes_the_file(self, cache_path):
        cache = EmbeddingCache(cache_path)
        put(cache, [1])
        assert len(list(cache_path.parent.iterdir())) > 1
        del cache
        gc.collect()
        assert list(cache_path.parent.iterdir()) == [cache_path]


class TestStats:
    def test_hits_and_misses_are_those_of_the_object(self, cache, cache_path):
        put(cache, range(5))
        found(cache, [1, 2, 2, 77])
        cache.get_into(keys([3, 78, 79]), np.empty((3, 384), np.float32))
        stats = cache.stats()
        assert (stats["hits"], stats["misses"]) == (4, 3)
        with EmbeddingCache(cache_path) as other:
            assert other.stats()["hits"] == other.stats()["misses"] == 0

    def test_they_are_counted_by_one_thread_at_a_time(self, cache_path):
        class Guarded(EmbeddingCache):
            def __setattr__(self, name, value):
                is_counted = name in ("_hits", "_misses") and name in vars(self)
                assert not is_counted or _connection_pool.connections_lock._is_owned()
                super().__setattr__(name, value)

        with Guarded(cache_path) as cache:
            put(cache, range(5))
            found(cache, [1, 2, 77])
            assert cache.stats()["hits"] == 2

    def test_rows_bytes_and_models_are_those_of_the_file(self, cache, cache_path):
        put(cache, range(5), model=b"one")
        put(cache, range(5, 8), model=b"two")
        cache.put_many(keys([8]), np.zeros((1, 3), np.int8), model=b"two")
        put(cache, [0], model=b"ignored: the row is there")
        with EmbeddingCache(cache_path) as other:
            stats = other.stats()
        assert (stats["rows"], stats["models"]) == (9, 2)
        assert stats["bytes"] == 8 * 384 * 4 + 3
        assert len(cache) == 9


class TestPrune:
    @pytest.fixture
    def clock(self, monkeypatch):
        """Give a clock to be set: ``clock[0] = seconds``."""
        now = [1e9]
        monkeypatch.setattr(time, "time", lambda: now[0])
        return now

    @pytest.mark.parametrize(
        ("rows", "stay"), [(0, 0), (1, 1), (3.9, 3), (4, 4), (6, 6), (7, 6)]
    )
    def test_the_first_written_go_first(self, cache, rows, stay):
        put(cache, [5, 3])
        put(cache, [1, 4, 2, 0])
        n_bytes = rows * 384 * 4
        assert cache.prune(max_bytes=n_bytes) == 6 - stay
        assert sorted(found(cache, [5, 3, 1, 4, 2, 0])) == sorted(
            [5, 3, 1, 4, 2, 0][6 - stay :]
        )
        assert cache.stats()["bytes"] <= n_bytes

    def test_rows_of_a_certain_age_go(self, cache, clock):
        for seconds in (0, 10, 20):
            clock[0] = 1e9 + seconds
            put(cache, [seconds])
        assert cache.prune(older_than_seconds=20.5) == 0
        assert cache.prune(older_than_seconds=15) == 1
        assert found(cache, [0, 10, 20]) == [10, 20]
        assert cache.prune(older_than_seconds=0) == 2

    def test_both_limits_hold(self, cache, clock):
        for seconds in range(6):
            clock[0] = 1e9 + seconds
            put(cache, [seconds])
        assert cache.prune(max_bytes=2 * 384 * 4, older_than_seconds=4) == 4
        assert found(cache, range(6)) == [4, 5]
        assert cache.prune(max_bytes=1e9, older_than_seconds=1) == 1

    @pytest.mark.faults
    def test_a_clock_that_jumps_back_harms_no_order(self, cache, clock):
        put(cache, [1])
        clock[0] = 0.0
        put(cache, [2])
        assert cache.prune(older_than_seconds=1) == 0
        assert cache.prune(max_bytes=384 * 4) == 1
        assert found(cache, [1, 2]) == [2]

    def test_room_that_is_free_goes_back_to_the_disk(self, cache, cache_path):
        for start in range(0, 4000, 500):
            put(cache, range(start, start + 500))
        with EmbeddingCache(cache_path) as other:
            assert found(other, [3999]) == [3999]
            whole = cache.stats()["bytes"]
            cache.prune(max_bytes=whole / 4)
            assert cache_path.stat().st_size < 0.4 * whole
            assert found(other, range(4000)) == list(range(3000, 4000))
            cache.clear()
            assert cache_path.stat().st_size < 100_000
            assert len(other) == 0

    def test_pruned_rows_can_be_stored_again(self, cache):
        put(cache, range(4))
        cache.prune(max_bytes=2 * 384 * 4)
        put(cache, [0])
        cache.prune(max_bytes=2 * 384 * 4)
        assert found(cache, range(4)) == [0, 3]

    def test_a_limit_is_needed(self, cache):
        with pytest.raises(
            ValueError, match="needs `max_bytes` or `older_than_seconds`"
        ):
            cache.prune()

    @pytest.mark.parametrize("limit", [-1, float("nan")])
    @pytest.mark.parametrize("name", ["max_bytes", "older_than_seconds"])
    def test_limits_are_not_negative(self, cache, name, limit):
        with pytest.raises(ValueError, match=f"`{name}` must be at least 0, got"):
            cache.prune(**{name: limit})


class TestThreads:
    def test_threads_share_a_cache(self, cache):
        def work(thread):
            for round_ in range(20):
                numbers = range(round_ * 10, round_ * 10 + 15 + thread % 2)
                put(cache, numbers)
                assert found(cache, numbers) == list(numbers)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        stats = cache.stats()
        assert (stats["rows"], stats["misses"]) == (206, 0)
        assert stats["hits"] == 20 * (15 * 4 + 16 * 4)

    def test_a_slow_thread_holds_up_no_other(self, cache):
        put(cache, [1])
        with cache._store._connection(create=False) as connection:
            connection.execute("BEGIN IMMEDIATE")
            assert found(cache, [1]) == [1]


class Machine(RuleBasedStateMachine):
    """A cache behaves as a dict whose oldest entries can be thrown away."""

    numbers = st.lists(st.integers(0, 30), max_size=8)

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.cache = EmbeddingCache(Path(self.folder.name) / "a.db")
        self.model = OrderedDict()

    def teardown(self):
        self.cache.close()
        self.folder.cleanup()

    @rule(numbers=numbers)
    def put(self, numbers):
        put(self.cache, numbers)
        for number in numbers:
            self.model.setdefault(number, None)

    @rule(numbers=numbers)
    def get(self, numbers):
        expected = [number for number in numbers if number in self.model]
        assert found(self.cache, numbers) == expected
        out = np.zeros((len(numbers), 384), np.float32)
        there = self.cache.get_into(keys(numbers), out)
        assert there.tolist() == [number in self.model for number in numbers]
        assert np.array_equal(out[there], vectors(expected))

    @rule(rows=st.integers(0, 12))
    def prune(self, rows):
        gone = max(0, len(self.model) - rows)
        assert self.cache.prune(max_bytes=rows * 384 * 4) == gone
        for _ in range(gone):
            self.model.popitem(last=False)

    @rule(number=st.integers(0, 30))
    def damage(self, number):
        update = "UPDATE rows SET checksum = checksum + 1 WHERE key = ?"
        if self.model:
            change_file(self.cache, update, key(number))
            assert found(self.cache, [number]) == []
            if self.model.pop(number, 0) is None:
                put(self.cache, [number])
                self.model[number] = None

    @rule()
    def clear(self):
        self.cache.clear()
        self.model.clear()

    @rule()
    def reopen(self):
        self.cache.close()
        self.cache = EmbeddingCache(self.cache.path)

    @rule()
    def pickle(self):
        self.cache = pickle.loads(pickle.dumps(self.cache))  # noqa: S301 - made here

    @invariant()
    def sizes(self):
        assert len(self.cache) == len(self.model)
        assert self.cache.stats()["bytes"] == len(self.model) * 384 * 4


class TestAnyOrder(Machine.TestCase):
    settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
