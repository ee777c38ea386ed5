import itertools
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sklearn_torch_bridge._row_numbers import as_indices, count_rows
from sklearn_torch_bridge._run._sorted_batches import Batches, longest_first


@given(st.lists(st.integers(0, 9), max_size=30))
def test_longest_first_is_a_stable_order_of_all_rows(lengths):
    order = longest_first(np.array(lengths, np.int64))
    expected = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    assert order.tolist() == expected


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(1, 50), st.booleans())
def test_batches_hold_every_row_once_and_none_is_too_large(lengths, size, by_length):
    given_lengths = np.array(lengths, np.int64) if by_length else None
    batches = list(Batches(len(lengths), size, given_lengths))
    rows = [row for batch in batches for row in as_indices(batch)]
    assert sorted(rows) == list(range(len(lengths)))
    assert all(0 < count_rows(batch) <= size for batch in batches)
    assert by_length or rows == sorted(rows)


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=40),
    st.integers(1, 50),
    st.integers(1, 60),
    st.booleans(),
)
def test_halves_hold_every_row_once_and_later_batches_are_no_larger(
    lengths, size, limit, by_length
):
    given_lengths = np.array(lengths, np.int64) if by_length else None
    batches = Batches(len(lengths), size, given_lengths)
    done, failures = [], 0
    for batch in batches:
        if batches.elements(batch) > limit and count_rows(batch) > 1:
            assert batches.halve(batch)
            failures += 1
        else:
            done += as_indices(batch).tolist()
    assert sorted(done) == list(range(len(lengths)))
    assert by_length or done == sorted(done)
    assert failures <= np.ceil(np.log2(size)) + 1


@given(st.lists(st.integers(1, 5), max_size=40), st.integers(1, 50), st.integers(1, 60))
def test_even_batches_hold_rows_of_one_length(lengths, size, most):
    given_lengths = np.array(lengths, np.int64)
    batches = list(Batches(len(lengths), size, given_lengths, most, even=True))
    assert sorted(np.concatenate([[], *batches])) == list(range(len(lengths)))
    for batch in batches:
        assert len(set(given_lengths[batch])) == 1
        assert len(batch) == 1 or given_lengths[batch].sum() <= most
    sizes = [(int(given_lengths[batch[0]]), len(batch)) for batch in batches]
    full = {length: min(size, max(1, most // length)) for length, _ in sizes}
    for (length, rows), (next_length, _) in itertools.pairwise(sizes):
        assert rows == full[length] or length != next_length


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), max_size=40),
    st.integers(1, 50),
    st.booleans(),
)
def test_rows_of_several_groups_share_no_batch(rows, size, even):
    lengths = np.array([length for length, _ in rows], np.int64)
    groups = np.array([group for _, group in rows], np.intp)
    batches = list(Batches(len(rows), size, lengths, even=even, groups=groups))
    assert sorted(np.concatenate([[], *batches])) == list(range(len(rows)))
    for batch in batches:
        assert len({*groups[batch]}) == 1
        assert lengths[batch].tolist() == sorted(lengths[batch], reverse=True)
        assert not even or len({*lengths[batch]}) == 1
    longest = [lengths[batch].max() for batch in batches]
    assert longest[:1] == [lengths.max()] if rows else not batches
    full = [batch for batch in batches if len(batch) == size]
    assert even or len(batches) - len(full) <= 4


@pytest.mark.parametrize("lengths", [None, np.arange(5)], ids=["array", "lengths"])
def test_a_batch_comes_again_in_parts(lengths):
    batches = Batches(5, 4, lengths)
    rows = as_indices(next(batches))
    batches.part(rows, [np.array([0, 3]), np.array([1, 2])])
    assert next(batches).tolist() == rows[[0, 3]].tolist()
    assert next(batches).tolist() == rows[[1, 2]].tolist()
    assert count_rows(next(batches)) == 1
    batches.most = 1
    batches.put_back(np.arange(2, 4))
    assert [count_rows(rows) for rows in batches] == [1, 1]


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=40),
    st.integers(1, 50),
    st.sets(st.integers(0, 39), max_size=3),
    st.booleans(),
)
def test_splitting_finds_bad_rows_in_few_attempts(lengths, size, wanted, by_length):
    bad = {row for row in wanted if row < len(lengths)}
    given_lengths = np.array(lengths, np.int64) if by_length else None
    batches = Batches(len(lengths), size, given_lengths)
    done, found, attempts = [], [], 0
    for batch in batches:
        rows = as_indices(batch).tolist()
        attempts += 1
        if not bad & set(rows):
            done += rows
        elif not batches.split(batch):
            found += rows
    assert sorted(found) == sorted(bad)
    assert sorted(done + found) == list(range(len(lengths)))
    plain = -(-len(lengths) // size)
    assert attempts <= plain + len(bad) * 2 * np.ceil(np.log2(min(size, len(lengths))))


def test_threads_draw_every_row_once():
    batches = Batches(5_000, 3)
    drawn = [[] for _ in range(4)]

    def draw(mine):
        for number, batch in enumerate(batches):
            if number % 7 == 3:
                batches.put_back(batch)
            else:
                mine.extend(as_indices(batch).tolist())

    threads = [threading.Thread(target=draw, args=(mine,)) for mine in drawn]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(itertools.chain(*drawn)) == list(range(5_000))


@pytest.mark.parametrize(
    "use",
    [next, lambda b: b.put_back(slice(0, 2)), Batches.stop],
    ids=["next", "put_back", "stop"],
)
def test_what_is_left_is_only_touched_under_the_lock(use):
    """The thread test above cannot show it: within one bytecode no thread changes."""
    batches = Batches(9, 2)

    class Guarded(list):
        def __getattribute__(self, name):
            assert batches._lock.locked()
            return super().__getattribute__(name)

        def __bool__(self):
            assert batches._lock.locked()
            return bool(len(self))

    batches._left = Guarded(batches._left)
    use(batches)
    assert not batches._lock.locked()


def test_nothing_is_drawn_after_a_stop():
    batches = Batches(9, 2)
    next(batches)
    batches.stop()
    assert next(batches, None) is None


def test_batches_drawn_before_are_known_to_be_too_large():
    batches = Batches(64, 16)
    first, second = next(batches), next(batches)
    assert not batches.is_too_large(second)
    batches.halve(first)
    assert batches.is_too_large(second)
    batches.put_back(second)
    assert count_rows(next(batches)) == 8


@pytest.mark.parametrize(
    ("n_rows", "expected"), [(1, False), (2, True), (3, True)], ids=str
)
def test_only_more_than_one_row_is_too_large(n_rows, expected):
    batches = Batches(3, 3, np.array([9, 9, 9]), most=4)
    assert batches.is_too_large(np.arange(n_rows)) is expected


@pytest.mark.parametrize("rows", [slice(1, 2), np.array([1])], ids=["run", "indices"])
@pytest.mark.parametrize("take_back", [Batches.halve, Batches.split])
def test_a_single_row_is_neither_halved_nor_split(take_back, rows):
    batches = Batches(3, 1)
    assert take_back(batches, rows) is False
    assert batches.most is None
    assert sum(map(count_rows, batches)) == 3


def test_a_batch_never_has_more_elements_than_fit():
    lengths = np.array([9, 5, 5, 1, 1, 1, 1, 1])
    sizes = [count_rows(batch) for batch in Batches(8, 4, lengths, most=10)]
    assert sizes == [1, 2, 4, 1]
