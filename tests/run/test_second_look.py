"""What is run to find the rows, and what is left alone."""

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor
from tests.tiny_models import Counting, Returning


def test_the_longest_row_is_run_again():
    class Seen(nn.Module):
        def __init__(self):
            super().__init__()
            self.sizes = Sizes()

        def forward(self, x, attention_mask):
            self.sizes(tuple(x.shape), int(attention_mask.sum()))
            return x.transpose(0, 1)

    class Sizes:
        def __init__(self):
            self.seen = []

        def __call__(self, *size):
            self.seen.append(size)

    module = Seen()
    rows = [np.ones((size, 2), np.float32) for size in (1, 4, 2, 3)]
    TorchFeatureExtractor(module).transform(rows)
    assert module.sizes.seen[-2:] == [((4, 4, 2), 10), ((2, 4, 2), 8)]


def test_what_a_model_keeps_is_not_that_of_the_second_look():
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, x):
            self.seen += 1
            return (x + self.seen).transpose(0, 1)

    X = np.zeros((8, 4, 2), np.float32)
    Z = TorchFeatureExtractor(Counter(), batch_size=4).transform(X)
    assert Z[:, 0].tolist() == [1] * 8  # each batch finds it as it was


def test_a_module_that_is_run_itself_is_looked_at_as_well():
    module = nn.Sequential(Returning(lambda x: x.transpose(0, 1)))
    inner = module[0]
    modes = []
    module.register_forward_hook(lambda *_: modes.append(inner.training))
    X = np.arange(32.0, dtype=np.float32).reshape(4, 4, 2)
    Z = TorchFeatureExtractor(module).transform(X)
    np.testing.assert_allclose(Z, X.mean(1))
    assert modes == [False, False]
    assert len(module._forward_hooks) == 1


def test_an_error_of_the_second_look_is_not_that_of_the_batch():
    class NoTwo(nn.Module):
        def forward(self, x):
            if len(x) == 2:
                raise MemoryError
            return x

    Z = TorchFeatureExtractor(NoTwo()).transform(np.eye(4, dtype=np.float32) + 1)
    np.testing.assert_array_equal(Z, np.eye(4) + 1)


@pytest.mark.parametrize("n_samples", [4, 5])
def test_without_a_doubt_nothing_is_run_again(n_samples):
    counting = Counting(nn.Linear(4, 3))
    X = np.ones((n_samples, 4), np.float32)
    TorchFeatureExtractor(counting, layer="inner").transform(X)
    assert counting.tally.sizes == [n_samples]


def test_an_earlier_batch_of_the_run_is_look_enough():
    for shape, sizes in [((7, 3), [4, 3]), ((4, 3, 2), [4]), ((7, 3, 3), [4, 3])]:
        counting = Counting()
        X = np.ones(shape, np.float32)
        TorchFeatureExtractor(counting, batch_size=4).transform(X)
        assert counting.tally.sizes == sizes
