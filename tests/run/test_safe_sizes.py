"""Sizes of batches that fit are remembered, and grow back."""

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge._run._safe_sizes import SafeSize
from tests.tiny_models import Tally


class Short(nn.Module):
    """Runs out of memory above a number of rows, as long as memory is short."""

    def __init__(self, most_rows, times, error=MemoryError):
        super().__init__()
        self.most_rows = most_rows
        self.error = error
        self.left = Tally()  # shared by replicas
        self.left.times = times
        self.tally = Tally()
        self.failed = Tally()

    def forward(self, x):
        if len(x) > self.most_rows and self.left.times:
            self.left.times -= 1
            self.failed(len(x))
            msg = "no memory"
            raise self.error(msg)
        self.tally(len(x))
        return x


X = np.arange(100.0)[:, None]


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
def test_batches_grow_back_once_memory_is_there_again(error):
    model = Short(1, 4, error)
    extractor = TorchFeatureExtractor(model)
    np.testing.assert_array_equal(extractor.transform(X), X)
    assert model.failed.sizes == [32, 16, 8, 4]
    assert max(model.tally.sizes) == 2
    for _ in range(10):
        np.testing.assert_array_equal(extractor.transform(X), X)
    model.tally.sizes.clear()
    extractor.transform(X)
    assert model.tally.sizes == [32, 32, 32, 4]


def test_batches_grow_back_within_a_long_call():
    model = Short(1, 4)
    rows = np.arange(3_000.0)[:, None]
    Z = TorchFeatureExtractor(model).transform(rows)
    np.testing.assert_array_equal(Z, rows)
    assert max(model.tally.sizes[-5:]) == 32


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"num_workers": 2}, {"device": ["cpu"] * 2}])
def test_a_size_that_never_fits_is_tried_less_and_less(settings):
    model = Short(5, 10**9)
    rows = np.arange(20_000.0)[:, None]
    extractor = TorchFeatureExtractor(model, **settings)
    np.testing.assert_array_equal(extractor.transform(rows), rows)
    n_devices = len(settings.get("device", ["cpu"]))  # which may try at one time
    assert len(model.failed.sizes) <= 12 * n_devices  # of some 5,000
    model.failed.sizes.clear()
    for _ in range(20):
        extractor.transform(X)
    assert len(model.failed.sizes) <= 1


def test_texts_grow_back_by_their_tokens(tokenizer):
    words = nn.Embedding(30_522, 2)

    class Words(Short):
        def forward(self, input_ids, attention_mask):
            super().forward(input_ids)
            return words(input_ids) + 0 * attention_mask[..., None]

    model = Words(1, 3)
    texts = [f"{'word ' * (number % 9)}{number}" for number in range(64)]
    extractor = TorchFeatureExtractor(model, preprocess=tokenizer)
    first = extractor.transform(texts)
    assert max(model.tally.sizes) <= 20
    for _ in range(20):
        np.testing.assert_allclose(extractor.transform(texts), first, rtol=1e-5)
    model.tally.sizes.clear()
    extractor.transform(texts)
    assert model.tally.sizes == [32, 32]


def test_a_budget_of_tokens_is_no_size_to_grow_beyond(tokenizer):
    model = Short(1, 2)
    words = nn.Embedding(30_522, 2)

    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.short = model

        def forward(self, input_ids):
            self.short(input_ids)
            return words(input_ids)

    extractor = TorchFeatureExtractor(
        Words(), preprocess=tokenizer, batch_size="auto", device="cpu"
    )
    texts = [f"word {number}" for number in range(3_000)]
    for _ in range(3):
        extractor.transform(texts)
    assert max(model.tally.sizes) * 4 <= 1_024


def test_a_batch_drawn_before_a_failure_says_nothing_new():
    size = SafeSize()
    size.shrink(failed=64, half=32)
    size.shrink(failed=64, half=32)  # of another device, at the same time
    assert size.most == 32
    for _ in range(64):
        size.passed(32, longest=1)
    assert size.most == 64
    size.passed(40, longest=1)  # the end of the rows: as large as none that failed
    size.shrink(failed=64, half=32)
    size.shrink(failed=64, half=32)
    for _ in range(127):
        size.passed(32, longest=1)
    assert size.most == 32
    size.passed(32, longest=1)
    assert size.most == 64


def test_nothing_is_counted_while_all_fits():
    size = SafeSize()
    for _ in range(200):
        size.passed(32, longest=1)
    assert size.most is None
