"""The simulated device runs out of memory on demand, and counts what it does."""

import gc

import pytest
import torch


def test_above_the_cap_an_allocation_fails(simulated, device):
    kept = torch.zeros(256, device=device)  # 1024 bytes
    simulated.set_cap(torch.accelerator.memory_allocated() + 1024)
    torch.zeros(256, device=device)
    with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate 1028 bytes"):
        torch.zeros(257, device=device)
    with pytest.raises(torch.OutOfMemoryError):
        kept + torch.zeros(256, device=device)
    assert torch.accelerator.memory_stats()["num_ooms"] == 2
    assert torch.accelerator.get_memory_info()[0] == 1024
    simulated.set_cap(None)
    assert (kept + torch.ones(256, device=device)).sum() == 256


def test_small_tensors_are_charged_whole_units(simulated, device):
    simulated.set_cap(torch.accelerator.memory_allocated() + 1000)
    kept = [torch.zeros(1, device=device)]  # 512 bytes
    with pytest.raises(torch.OutOfMemoryError):
        kept.append(torch.zeros(1, device=device))


def test_the_planned_allocation_fails_and_no_other(simulated, device):
    simulated.fail_allocations(nth=2)
    kept = [torch.zeros(2, device=device) for _ in range(2)]
    with pytest.raises(torch.OutOfMemoryError, match="planned"):
        torch.zeros(2, device=device)
    kept.append(torch.zeros(2, device=device))
    assert len(kept) == 3


def test_large_allocations_can_be_planned_to_fail(simulated, device):
    simulated.fail_allocations(above_bytes=1000)
    torch.zeros(250, device=device)
    for _ in range(2):
        with pytest.raises(torch.OutOfMemoryError):
            torch.zeros(251, device=device)
    simulated.fail_allocations()
    torch.zeros(251, device=device)


def test_memory_is_given_back_and_its_peak_remembered(device):
    gc.collect()
    before = torch.accelerator.memory_allocated()
    torch.accelerator.reset_peak_memory_stats()
    x = torch.zeros(1000, device=device)
    assert torch.accelerator.memory_allocated() == before + 4096  # whole 512 bytes
    del x
    assert torch.accelerator.memory_allocated() == before
    assert torch.accelerator.max_memory_allocated() == before + 4096


def test_transfers_are_counted(simulated, device):
    x = torch.ones(8).to(device)
    assert simulated.counters()["h2d"] == 1
    assert simulated.counters()["h2d_bytes"] == 32
    assert simulated.counters()["synchronizations"] == 1
    x.to(torch.bfloat16).cpu()
    counts = simulated.counters()
    assert (counts["d2h"], counts["d2h_bytes"], counts["d2d"]) == (1, 16, 1)
    simulated.reset()
    assert set(simulated.counters().values()) == {0}


def test_a_blocking_cast_moves_the_source_dtype(simulated, device):
    x = torch.ones(8, dtype=torch.bfloat16, device=device)
    target = torch.empty(8)
    target.copy_(x)
    assert simulated.counters()["d2h_bytes"] == 16
    pinned = torch.empty(8, pin_memory=True)
    pinned.copy_(x, non_blocking=True)
    assert simulated.counters()["d2h_bytes"] == 16 + 32
    torch.accelerator.synchronize()
    assert pinned.tolist() == target.tolist() == [1] * 8


WAITS = {  # operation -> synchronisations, items
    "item": (lambda x: x[0].item(), 1, 1),
    "bool": (lambda x: bool((x > 0).all()), 1, 1),
    "nonzero": (lambda x: x.nonzero(), 1, 0),
    "mask": (lambda x: x[x > 1], 1, 0),
    "put_mask": (lambda x: x.index_put_([x > 1], torch.ones_like(x)[:2]), 1, 0),
    "fill": (lambda x: x.index_put_([x > 1], torch.tensor(0.0)), 0, 0),
    "host_index": (lambda x: x[torch.tensor([0, 1])], 1, 0),
    "unique": (torch.unique, 1, 0),
    "equal": (lambda x: torch.equal(x, x), 1, 0),
    "event": (lambda _: torch.Event().synchronize(), 0, 0),
    "device": (lambda _: torch.accelerator.synchronize(), 1, 0),
    "compute": (lambda x: (x * 2 + 1).softmax(0), 0, 0),
    "pageable_upload": (lambda x: x.copy_(torch.ones(3), non_blocking=True), 0, 0),
    "pageable_download": (lambda x: torch.empty(3).copy_(x, non_blocking=True), 1, 0),
}


@pytest.mark.parametrize("name", WAITS)
def test_what_makes_the_host_wait(simulated, device, name):
    operation, synchronizations, items = WAITS[name]
    x = torch.tensor([1.0, 2.0, 3.0], device=device)
    simulated.reset()
    operation(x)
    counts = simulated.counters()
    assert (counts["synchronizations"], counts["items"]) == (synchronizations, items)


def test_pinned_memory(simulated, device):
    assert simulated.counters()["pinned_allocations"] == 0
    tensors = [
        torch.ones(4).pin_memory(),
        torch.empty(4, pin_memory=True)[1:],
        torch.ones(4, device=device).to("cpu", non_blocking=True),
    ]
    assert [tensor.is_pinned() for tensor in tensors] == [True] * 3
    assert simulated.counters()["pinned_allocations"] == 3
    assert not torch.ones(4).is_pinned()
    with pytest.raises(RuntimeError, match="pinned"):
        torch.empty(4, device=device, pin_memory=True)
    torch.accelerator.synchronize()
    assert tensors[2].tolist() == [1] * 4


def test_a_loader_pins_its_batches(device):
    batches = torch.utils.data.DataLoader(
        torch.arange(6.0), batch_size=3, pin_memory=True
    )
    for batch in batches:
        assert batch.is_pinned()
        assert (batch.to(device, non_blocking=True) + 1).device == device
