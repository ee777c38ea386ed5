"""Nothing is kept of code that changes what it reads, however it does so."""

import functools

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import FingerprintError, TorchFeatureExtractor
from sklearn_torch_bridge._known import Steadiness, SteadySink, _steady_sink

STATE = {"n": 0}


def as_tensor(rows):
    return torch.tensor(np.asarray(rows), dtype=torch.float32)


def increase(state):
    state["n"] += 1


def increase_it():
    STATE["n"] += 1


def current():
    return STATE["n"]


def by_a_helper(rows):
    increase(STATE)
    return as_tensor(rows) * STATE["n"]


def by_two_helpers(rows):
    increase_it()
    return as_tensor(rows) * current()


def by_another_name(rows):
    state = STATE
    state["n"] += 1
    return as_tensor(rows) * state["n"]


def of_an_argument(state, rows):
    increase(state)
    return as_tensor(rows) * state["n"]


CHANGING = [
    *(by_a_helper, by_two_helpers, by_another_name),
    functools.partial(of_an_argument, {"n": 0}),
]


@pytest.mark.parametrize(
    "preprocess", CHANGING, ids=["helper", "two", "name", "partial"]
)
@pytest.mark.parametrize("num_workers", [0, 2])
def test_code_that_changes_what_it_reads_asks_for_a_key(
    preprocess, num_workers, cache, tmp_path
):
    X = np.arange(1.0, 13.0).reshape(6, 2)
    extractor = TorchFeatureExtractor(
        nn.ReLU(),
        preprocess=preprocess,
        cache=cache,
        batch_size=2,
        num_workers=num_workers,
    )
    pattern = "it has changed, as it ran, what it reads.*give `cache_key`"
    with pytest.raises(FingerprintError, match=pattern):
        extractor.transform(X)
    with pytest.raises(FingerprintError, match=pattern):
        extractor.transform_to_file(X, tmp_path / "Z.npy")
    assert len(cache) == 0
    assert not (tmp_path / "Z.npy").exists()
    assert extractor.set_params(cache_key="mine").transform(X).shape == X.shape


def test_a_pooling_that_changes_what_it_reads_is_named(cache):
    def pooling(hidden, mask):  # noqa: ARG001 - as pooling callables are called
        increase(STATE)
        return hidden * STATE["n"]

    extractor = TorchFeatureExtractor(nn.ReLU(), pooling=pooling, cache=cache)
    with pytest.raises(FingerprintError, match="`pooling` cannot be fingerprinted"):
        extractor.transform(np.ones((3, 2)))


class Listing:
    """A sink that lists the rows it is given."""

    def __init__(self):
        self.rows = []

    def write(self, rows, pieces):
        assert len(pieces[0]) == len(rows)
        self.rows += list(rows)
        return len(rows)

    def caller_rows(self, rows):
        return rows


def test_results_wait_until_it_was_looked_again(monkeypatch):
    monkeypatch.setattr(_steady_sink.time, "monotonic", iter(range(100)).__next__)
    steadiness, listing = Steadiness([("preprocess", by_a_helper)]), Listing()
    sink = SteadySink(listing, steadiness)
    piece = [torch.ones(2, 3)]
    assert sink.write(np.array([0, 1]), piece) == 2  # the first: at once
    assert sink.write(np.array([2, 3]), piece) == 0  # looking took 1 of 20
    assert sink.finish() == 2
    assert listing.rows == [0, 1, 2, 3]
    sink.write(np.array([4, 5]), piece)
    increase(STATE)
    with pytest.raises(FingerprintError, match="has changed"):
        sink.finish()
    assert listing.rows == [0, 1, 2, 3]


def test_much_that_waits_does_not_wait_longer(monkeypatch):
    monkeypatch.setattr(_steady_sink, "_MOST_BYTES", 10)
    steadiness, listing = Steadiness([("preprocess", by_a_helper)]), Listing()
    monkeypatch.setattr(steadiness, "is_due", lambda: False)
    SteadySink(listing, steadiness).write(np.array([0, 1]), [torch.ones(2, 3)])
    assert listing.rows == [0, 1]


def test_of_libraries_nothing_is_looked_at(tokenizer):
    assert not Steadiness([("preprocess", tokenizer), ("pooling", torch.amax)])


def test_large_arrays_are_looked_at_by_their_identity(monkeypatch):
    table = np.ones(1 << 20)
    closing = Steadiness([("preprocess", lambda rows: table[rows])])
    monkeypatch.setattr(np, "ascontiguousarray", None)  # which a digest of values needs
    closing.check()
