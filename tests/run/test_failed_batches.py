"""Out of memory: halved, continued, remembered."""

import warnings
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sklearn_torch_bridge import (
    BadRowWarning,
    ForwardError,
    TorchFeatureExtractor,
)
from sklearn_torch_bridge._run._failed_batches import is_out_of_memory
from tests.tiny_models import Counting, Doubling, Failing, Returning, Tally

pytestmark = pytest.mark.faults


class Greedy(nn.Module):
    """Runs out of memory above a number of rows, or of elements of one row."""

    def __init__(self, most_rows, error=torch.OutOfMemoryError, most_in_a_row=1e9):
        super().__init__()
        self.inner = Doubling(2)
        self.most_rows = most_rows
        self.most_in_a_row = most_in_a_row
        self.error = error
        self.tally = Tally()
        self.failed = Tally()

    def forward(self, x):
        if len(x) > self.most_rows or float(x.max()) > self.most_in_a_row:
            self.failed(len(x))
            msg = "not enough memory: you tried to allocate 5 bytes."
            raise self.error(msg)
        self.tally(len(x))
        return self.inner(x)


@pytest.fixture
def X():
    return np.arange(100.0)[:, None]


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError, MemoryError, RuntimeError],
    ids=lambda e: e.__name__,
)
@pytest.mark.parametrize("layer", [None, "inner.blocks.1"], ids=str)
def test_a_batch_too_large_is_halved_and_rows_keep_their_order(X, error, layer):
    module = Greedy(5, error)
    Z = TorchFeatureExtractor(module, batch_size=64, layer=layer).transform(X)
    np.testing.assert_array_equal(Z, 4 * X)
    assert module.failed.sizes == [64, 32, 16, 8]
    assert module.tally.rows == 100


def test_the_size_that_fits_is_remembered(X):
    module = Greedy(5)
    TorchFeatureExtractor(module, batch_size=64).transform(X)
    module.failed.sizes.clear()
    TorchFeatureExtractor(module, batch_size=64).fit(X).transform(X)
    assert module.failed.sizes == []


def test_another_model_is_tried_in_full(X):
    TorchFeatureExtractor(Greedy(5), batch_size=64).transform(X)
    other = Greedy(100)
    TorchFeatureExtractor(other, batch_size=64).transform(X)
    assert other.tally.sizes == [64, 36]


def test_a_row_that_does_not_fit_by_itself_is_named(X):
    module = Greedy(100, most_in_a_row=41)
    X[43:] = 0
    with pytest.raises(ForwardError, match=r"on row 42, .*with this row alone"):
        TorchFeatureExtractor(module, batch_size=64).transform(X)


def test_longest_texts_are_tried_first_and_short_ones_in_larger_batches(tokenizer):

    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(30_522, 2)
            self.tally = Tally()

        def forward(self, input_ids):
            if input_ids.numel() > 40:
                raise MemoryError
            self.tally(tuple(input_ids.shape))
            return self.words(input_ids)

    module = Small()
    texts = [f"{'word ' * (number % 9)}{number}" for number in range(64)]
    Z = TorchFeatureExtractor(module, preprocess=tokenizer, batch_size=16).transform(
        texts
    )
    alone = TorchFeatureExtractor(module.words, preprocess=tokenizer).transform(texts)
    np.testing.assert_allclose(Z, alone, rtol=1e-6, atol=1e-6)
    shapes = module.tally.sizes
    assert shapes[0][0] < shapes[-2][0]
    assert all(rows * tokens <= 40 for rows, tokens in shapes)


def test_the_failed_attempt_lets_go_of_its_tensors(X):
    """Else the halves would meet the same full memory."""
    alive = []

    class Watched(nn.Module):
        def forward(self, x):
            hidden = x * 2
            alive.append(weakref.ref(hidden))
            if len(x) > 50:
                raise MemoryError
            assert sum(ref() is not None for ref in alive) == 1
            return hidden

    TorchFeatureExtractor(Watched(), batch_size=100).transform(X)
    assert len(alive) == 3


def test_a_batch_is_let_go_of_before_the_next_is_prepared(X):
    alive = []

    class Watched(nn.Module):
        def forward(self, x):
            hidden = x * 2
            alive.extend(map(weakref.ref, (x, hidden)))
            return hidden

    def preprocess(rows):
        assert not any(ref() is not None for ref in alive)
        return torch.tensor(np.array(rows), dtype=torch.float32)

    extractor = TorchFeatureExtractor(Watched(), preprocess=preprocess, batch_size=30)
    np.testing.assert_array_equal(extractor.transform(X), 2 * X)
    assert len(alive) == 2 * 4


def test_what_was_read_of_a_batch_that_failed_is_let_go_of(X):
    alive = []

    def pooling(hidden, _):
        pooled = hidden.clone()
        alive.append(weakref.ref(pooled))
        return pooled

    def preprocess(rows):
        assert not any(ref() is not None for ref in alive)
        return torch.tensor(np.array(rows), dtype=torch.float32)

    extractor = TorchFeatureExtractor(
        nn.Sequential(Doubling(1), Greedy(15)),
        preprocess=preprocess,
        batch_size=30,
        layer=["0", "1"],
        pooling=pooling,
    )
    np.testing.assert_array_equal(extractor.transform(X), np.hstack([2 * X, 8 * X]))
    assert len(alive) == 1 + 2 * 7


def test_other_errors_are_no_want_of_memory():
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))
    assert not is_out_of_memory(None)


def limited(limit=40):
    return nn.Sequential(Counting(), Failing(limit))


@given(bad=st.sets(st.integers(0, 99), max_size=1), batch_size=st.integers(2, 64))
def test_one_bad_row_costs_two_forwards_a_halving(bad, batch_size):
    X = np.zeros((100, 1))
    X[list(bad)] = 50
    module = limited()
    extractor = TorchFeatureExtractor(module, on_error="nan", batch_size=batch_size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BadRowWarning)  # it is not what is tested here
        extractor.transform(X)
    plain = -(-100 // batch_size)
    extra = 2 * np.ceil(np.log2(batch_size))
    assert len(module[0].tally.sizes) <= plain + len(bad) * extra


def test_rows_that_preprocess_fails_on_become_nan():
    def preprocess(rows):
        return torch.tensor([[float(row)] for row in rows])

    extractor = TorchFeatureExtractor(
        nn.Identity(), preprocess=preprocess, on_error="nan", batch_size=4
    )
    with pytest.warns(BadRowWarning, match=r"rows 1, 5 of .*could not convert"):
        Z = extractor.transform(["1", "x", "2", "3", "4", "y"])
    np.testing.assert_array_equal(Z[:, 0], [1, np.nan, 2, 3, 4, np.nan])


def test_a_wrong_wish_is_no_bad_row(rng):
    module = Returning(lambda x: {"a": x, "b": x})
    extractor = TorchFeatureExtractor(module, on_error="nan")
    with pytest.raises(TypeError, match="choose one"):
        extractor.transform(rng.normal(size=(4, 2)))


def test_a_row_that_does_not_fit_in_memory_is_a_bad_row():
    module = Failing(40, error=MemoryError("no"))
    X = np.zeros((8, 1))
    X[5] = 41
    with pytest.warns(BadRowWarning, match=r"row 5 of .*with this row alone"):
        Z = TorchFeatureExtractor(module, on_error="nan").transform(X)
    assert np.flatnonzero(np.isnan(Z)).tolist() == [5]


def test_a_bad_row_holds_no_tensor_of_its_forward():
    alive = []

    class Picky(nn.Module):
        def forward(self, x):
            hidden = x * 2
            alive.append(weakref.ref(hidden))
            if x.min() < 0:
                msg = "below zero"
                raise ArithmeticError(msg)
            return hidden

    def preprocess(rows):
        assert not any(ref() is not None for ref in alive)
        return torch.tensor(np.array(rows), dtype=torch.float32)

    X = np.array([[1.0], [-1.0], [-2.0], [3.0]])
    extractor = TorchFeatureExtractor(
        Picky(), preprocess=preprocess, batch_size=1, on_error="nan"
    )
    with pytest.warns(BadRowWarning, match="rows 1 to 2 of .* below zero"):
        Z = extractor.transform(X)
    np.testing.assert_array_equal(Z, [[2], [np.nan], [np.nan], [6]])
