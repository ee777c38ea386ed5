"""Threads prepare batches ahead; order, errors and sizes stay."""

import threading

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import (
    ForwardError,
    TorchFeatureExtractor,
)
from tests.tiny_models import Returning, Tally

SAME = {"rtol": 1e-5, "atol": 1e-5}


@pytest.mark.parametrize("num_workers", [1, 3])
def test_workers_prepare_batches_and_keep_the_order(num_workers):
    X = [str(number) for number in range(101)]
    threads = set()

    def preprocess(rows):
        threads.add(threading.current_thread())
        return torch.tensor([[float(row)] for row in rows])

    extractor = TorchFeatureExtractor(
        nn.Identity(), preprocess=preprocess, num_workers=num_workers, batch_size=4
    )
    assert extractor.transform(X)[:, 0].tolist() == list(range(101))
    assert threading.current_thread() not in threads
    assert not any(thread.is_alive() for thread in threads)


def test_batches_are_prepared_while_the_model_runs():
    """The model waits for the next batch to be prepared: without workers, for ever."""
    prepared = [threading.Event() for _ in range(3)]

    def preprocess(rows):
        row = int(rows[0])
        prepared[row].set()
        return torch.tensor([[float(row)]])

    def forward(x):
        follower = int(x) + 1
        assert follower == 3 or prepared[follower].wait(30)
        return x

    extractor = TorchFeatureExtractor(
        Returning(forward), preprocess=preprocess, num_workers=1, batch_size=1
    )
    assert extractor.transform(["0", "1", "2"]).tolist() == [[0], [1], [2]]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_row_that_a_worker_fails_on_is_named(num_workers):
    def preprocess(rows):
        return torch.tensor([[float(row)] for row in rows])

    extractor = TorchFeatureExtractor(
        nn.Identity(), preprocess=preprocess, num_workers=num_workers, batch_size=2
    )
    before = threading.active_count()
    with pytest.raises(ForwardError, match=r"`preprocess` failed on row 4: Val"):
        extractor.transform(["1", "2", "3", "4", "x", "5", "6"])
    assert threading.active_count() == before


def test_workers_go_with_batches_that_are_too_large(rng):
    X = rng.normal(size=(100, 3))
    tally = Tally()

    def forward(x):
        tally(len(x))
        if len(x) > 5:
            raise MemoryError
        return x * 2

    extractor = TorchFeatureExtractor(
        Returning(forward),
        preprocess=lambda rows: torch.tensor(np.array(rows)),
        num_workers=2,
        batch_size=64,
    )
    np.testing.assert_allclose(extractor.transform(X), X * 2, **SAME)
    assert [size for size in tally.sizes if size > 5] == [64, 32, 16, 8]
