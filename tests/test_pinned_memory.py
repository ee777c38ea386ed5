"""Results arrive one batch late and whole; memory is pinned where that is worth it.

The devices and events are stand-ins: `tests/simulated_device` runs the same code on a
device whose copies are late.
"""

import numpy as np
import pytest
import torch

from sklearn_torch_bridge import _pinned_memory
from sklearn_torch_bridge._pinned_memory import (
    PinnedStage,
    is_staged,
    pinned,
    to_device,
)


class Event:
    """Counts waits instead of waiting."""

    made = 0
    waits = 0

    def __init__(self, device):
        Event.made += 1
        self.is_recorded = False

    def record(self):
        self.is_recorded = True

    def synchronize(self):
        assert self.is_recorded
        Event.waits += 1


@pytest.fixture
def pinned_sizes(monkeypatch):
    """Let the CPU be a device whose copies are late; list what was pinned."""
    sizes, empty = [], torch.empty

    def without_pinning(shape, *, dtype, pin_memory):
        assert pin_memory
        sizes.append(tuple(shape))
        return empty(shape, dtype=dtype)

    monkeypatch.setattr(_pinned_memory, "STAGED_DEVICES", {"cpu"})
    monkeypatch.setattr(Event, "made", 0)
    monkeypatch.setattr(Event, "waits", 0)
    monkeypatch.setattr(torch, "Event", Event)
    monkeypatch.setattr(torch, "empty", without_pinning)
    return sizes


@pytest.fixture
def written():
    return []


@pytest.fixture
def stage(written):
    return PinnedStage(
        lambda rows, pieces: written.append((rows, [one.tolist() for one in pieces]))
    )


def batch(value, n_rows=2):
    return [torch.full((n_rows, 3), float(value))]


def test_a_batch_is_written_when_the_next_is_under_way(stage, written, pinned_sizes):
    rows = [slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 7)]
    for number, which in enumerate(rows):
        stage.put(which, batch(number, which.stop - which.start))
        assert len(written) == number
    stage.finish()
    stage.finish()
    assert [which for which, _ in written] == rows
    values = [pieces[0] for _, pieces in written]
    assert values == [[[float(n)] * 3] * (2 if n < 3 else 1) for n in range(4)]
    assert Event.waits == 4
    assert Event.made == 2  # one a turn, and two buffers, which are used again
    assert pinned_sizes == [(2, 3), (2, 3)]


@pytest.mark.usefixtures("pinned_sizes")
def test_the_source_may_change_once_it_is_sent(stage, written):
    pieces = batch(1)
    stage.put(slice(0, 2), pieces)
    pieces[0].zero_()
    stage.finish()
    assert written == [(slice(0, 2), [[[1.0] * 3] * 2])]


def test_each_layer_and_dtype_has_buffers_of_its_own(stage, written, pinned_sizes):
    pieces = [torch.ones(2, 3), torch.ones(2, 1), torch.ones(2, 3, dtype=torch.int64)]
    for _ in range(3):
        stage.put(slice(0, 2), pieces)
    assert len(pinned_sizes) == 6
    stage.finish()
    assert all(found == [one.tolist() for one in pieces] for _, found in written)


@pytest.mark.usefixtures("pinned_sizes")
def test_a_larger_batch_gets_a_larger_buffer(stage, written):
    for n_rows in (1, 1, 5, 5):
        stage.put(slice(0, n_rows), batch(n_rows, n_rows))
    stage.finish()
    assert [len(pieces[0]) for _, pieces in written] == [1, 1, 5, 5]
    assert written[-1][1][0] == [[5.0] * 3] * 5


@pytest.mark.parametrize("why", ["too large", "elsewhere"])
def test_what_cannot_be_staged_is_written_at_once_and_in_order(
    stage, written, pinned_sizes, monkeypatch, why
):
    stage.put(slice(0, 2), batch(0))
    if why == "too large":
        monkeypatch.setattr(_pinned_memory, "_MOST_BYTES", 8)
    else:
        monkeypatch.setattr(_pinned_memory, "STAGED_DEVICES", set())
    stage.put(slice(2, 4), batch(1))
    assert [rows for rows, _ in written] == [slice(0, 2), slice(2, 4)]
    assert len(pinned_sizes) == 1


@pytest.mark.usefixtures("pinned_sizes")
def test_rows_are_pinned_unless_they_are_many(monkeypatch):
    dtype = np.dtype(np.float32)
    assert pinned((2, 3), dtype).dtype is torch.float32
    monkeypatch.setattr(_pinned_memory, "_MOST_BYTES", 23)
    fresh = []
    monkeypatch.setattr(_pinned_memory, "fresh", lambda *args: fresh.append(args))
    pinned((2, 3), dtype)
    assert fresh == [((2, 3), dtype)]


def test_only_cuda_is_staged():
    assert is_staged(torch.device("cuda", 1))
    assert not any(is_staged(torch.device(kind)) for kind in ("cpu", "mps", "xpu"))


def test_a_tensor_that_is_there_is_the_same():
    tensor = torch.ones(2)
    assert to_device(tensor, torch.device("cpu")) is tensor
