"""Asynchronous copies stay NaN until a real wait, and every missing wait is seen."""

import functools
import threading
from queue import SimpleQueue

import pytest
import torch


def pinned(*values):
    return torch.tensor(values).pin_memory()


def pinned_like(x):
    """Return pinned memory with old values in it, as a reused buffer has."""
    return torch.full(x.shape, -5, dtype=x.dtype, pin_memory=True)


@pytest.fixture
def x(device):
    return torch.arange(4.0).to(device)


# What completes a copy to the host, and what does not.

WAITS = {
    "stream": lambda: torch.accelerator.current_stream().synchronize(),
    "device": torch.accelerator.synchronize,
    "later_event": lambda: _recorded().synchronize(),
    "item": lambda: torch.ones(1, device="simdev").item(),
    "blocking_copy": lambda: torch.ones(1).to("simdev"),
    "polling": lambda: _poll(_recorded().query),
    "polling_the_stream": lambda: _poll(torch.accelerator.current_stream().query),
}


def _recorded():
    event = torch.Event()
    event.record()
    return event


def _poll(query):
    answers = [query()]
    while not answers[-1]:
        answers.append(query())
    assert answers == [False, True]


@pytest.mark.parametrize("wait", WAITS)
def test_a_copy_to_pinned_memory_is_nan_until_a_wait(x, wait):
    target = pinned_like(x)
    target.copy_(x, non_blocking=True)
    assert target.isnan().all()
    WAITS[wait]()
    assert target.tolist() == [0, 1, 2, 3]


def test_what_is_no_wait_leaves_it_nan(x):
    earlier = _recorded()
    target = x.to("cpu", non_blocking=True)
    other = torch.Stream()
    x.add_(1).sum()
    earlier.synchronize()
    other.synchronize()
    assert target.isnan().all()
    torch.accelerator.synchronize()
    assert target.tolist() == [0, 1, 2, 3]


def test_without_laziness_copies_are_done_at_once(simulated, x):
    simulated.lazy(False)
    assert x.to("cpu", non_blocking=True).tolist() == [0, 1, 2, 3]


def test_a_copy_to_pageable_memory_is_done_on_return(x):
    target = torch.empty(4)
    assert target.copy_(x, non_blocking=True).tolist() == [0, 1, 2, 3]


def test_a_copy_from_pageable_memory_has_read_it_on_return(x):
    source = torch.ones(4)
    x.copy_(source, non_blocking=True)
    source.zero_()
    assert x.tolist() == [1] * 4


def test_casting_and_strided_copies_are_late_too(device):
    x = torch.arange(6.0, device=device).view(2, 3)
    half = torch.empty(2, 3, dtype=torch.bfloat16, pin_memory=True)
    half.copy_(x, non_blocking=True)
    assert half.isnan().all()
    y = torch.zeros(3, 2, device=device)
    y.t().copy_(torch.ones(2, 3).pin_memory(), non_blocking=True)
    assert y.tolist() == torch.ones(3, 2).tolist()
    assert half.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_streams_are_current_inside_their_block(device):
    first, side = torch.accelerator.current_stream(), torch.Stream()
    with side:
        assert torch.accelerator.current_stream() == side
    assert torch.accelerator.current_stream() == first
    module = torch.get_device_module(device)
    assert module.default_stream() == first
    with module.stream(side):
        assert module.current_stream() == side


def test_timed_events(x):
    start, end = torch.Event(enable_timing=True), torch.Event(enable_timing=True)
    start.record()
    x.exp()
    end.record()
    with pytest.raises(RuntimeError, match="must be completed"):
        start.elapsed_time(end)
    end.synchronize()
    assert start.elapsed_time(end) > 0


# Two streams in the right order: no hazard, and the right values.


def test_a_double_buffered_pipeline_is_clean(simulated, device):
    upload, download = torch.Stream(), torch.Stream()
    compute = torch.accelerator.current_stream()
    rows = torch.arange(24.0).view(6, 4)
    source = [torch.empty(4, pin_memory=True) for _ in range(2)]
    target = [torch.empty(4, pin_memory=True) for _ in range(2)]
    uploaded = [torch.Event() for _ in range(2)]
    downloaded = [torch.Event() for _ in range(2)]
    results = []
    for step, row in enumerate(rows):
        slot = step % 2
        uploaded[slot].synchronize()
        downloaded[slot].synchronize()
        if step >= 2:
            results.append(target[slot].clone())
        source[slot].copy_(row)
        with upload:
            x = source[slot].to(device, non_blocking=True)
            uploaded[slot].record()
        compute.wait_event(uploaded[slot])
        x.record_stream(compute)
        y = x * 2
        download.wait_stream(compute)
        with download:
            target[slot].copy_(y, non_blocking=True)
            downloaded[slot].record()
        y.record_stream(download)
    torch.accelerator.synchronize()
    results += [target[step % 2].clone() for step in (4, 5)]
    assert torch.stack(results).tolist() == (rows * 2).tolist()
    assert simulated.hazards() == []


def stage(device, batches, *, wait=True):
    """Bring results home through two pinned buffers, one batch behind the device."""
    buffers = [torch.empty(4, pin_memory=True) for _ in range(2)]
    copied = [torch.Event() for _ in range(2)]
    results = []
    for step in range(len(batches) + 1):
        slot = step % 2
        if step < len(batches):
            x = batches[step].to(device, non_blocking=True)
            buffers[slot].copy_(x * 2, non_blocking=True)
            copied[slot].record()
        if step > 0:
            if wait:
                copied[1 - slot].synchronize()
            results.append(buffers[1 - slot].clone())
    return torch.stack(results)


def test_staging_through_two_buffers_waits_once_a_batch(simulated, device):
    batches = torch.arange(24.0).view(6, 4)
    assert stage(device, batches).tolist() == (batches * 2).tolist()
    assert simulated.counters()["synchronizations"] == 6
    assert simulated.hazards() == []


def test_staging_without_the_wait_gives_nan_and_hazards(simulated, device):
    assert stage(device, torch.zeros(6, 4), wait=False).isnan().all()
    assert "before the host could know" in simulated.hazards()[0]
    simulated.reset()


# One thing forgotten: its hazard is named, and nothing else is.


def compute_without_waiting_for_the_upload(x):
    side = torch.Stream()
    side.wait_stream(torch.accelerator.current_stream())
    with side:
        x.copy_(pinned(5.0, 5, 5, 5), non_blocking=True)
    assert (x * 1).tolist() == [0, 1, 2, 3]  # the copy has not been made
    return "reads memory that copy to the device on stream .* writes, without having"


def download_without_waiting_for_compute(x):
    y = x * 2
    side = torch.Stream()
    with side:
        target = y.to("cpu", non_blocking=True)
    side.synchronize()
    y.record_stream(side)
    assert target.tolist() == [0, 2, 4, 6]  # by luck: kernels are done at once here
    return "copy to the host on stream .* reads memory that aten::mul on stream 0"


def overwrite_what_another_stream_reads(x):
    side = torch.Stream()
    side.wait_stream(torch.accelerator.current_stream())
    with side:
        target = x.to("cpu", non_blocking=True)
    x.zero_()
    side.synchronize()
    assert target.shape == x.shape
    return "aten::zero_ on stream 0 .* overwrites memory that copy to the host"


def free_without_record_stream(x):
    y = x * 2
    side = torch.Stream()
    side.wait_stream(torch.accelerator.current_stream())
    with side:
        target = y.to("cpu", non_blocking=True)
    del y
    side.synchronize()
    assert target.isnan().all()
    return r"memory was freed while copy to the host .*record_stream"


def change_the_pinned_source(x):
    source = pinned(1.0, 1, 1, 1)
    x.copy_(source, non_blocking=True)
    source.fill_(7)
    assert x.tolist() == [7] * 4
    return "pinned source changed before the copy was known to be complete"


def change_the_pinned_source_after_the_device_read_it(x):
    source = pinned(1.0, 1, 1, 1)
    x.copy_(source, non_blocking=True)
    assert (x + 1).device == x.device  # runs the copy; the host knows nothing of it
    source.fill_(7)
    return "pinned source changed before the copy was known to be complete"


def reuse_the_pinned_target(x):
    target = pinned_like(x)
    target.copy_(x, non_blocking=True)
    event = _recorded()
    target.copy_(x + 1, non_blocking=True)
    event.synchronize()
    assert target.isnan().all()  # the second copy is still under way
    torch.accelerator.synchronize()
    assert target.tolist() == [1, 2, 3, 4]
    return "overwrites pinned memory before the host could know"


def use_memory_that_its_stream_has_not_reached(x):
    y = x * 2
    fresh = torch.empty(4, device=x.device)
    side = torch.Stream()
    with side:
        fresh.fill_(0)
    side.synchronize()
    assert y.shape == fresh.shape
    return "aten::fill_ on stream .* overwrites memory that the allocation on stream 0"


FORGOTTEN = [
    compute_without_waiting_for_the_upload,
    download_without_waiting_for_compute,
    overwrite_what_another_stream_reads,
    free_without_record_stream,
    change_the_pinned_source,
    change_the_pinned_source_after_the_device_read_it,
    reuse_the_pinned_target,
    use_memory_that_its_stream_has_not_reached,
]


@pytest.mark.parametrize("bug", FORGOTTEN, ids=lambda bug: bug.__name__)
def test_a_hazard_is_seen(simulated, x, bug):
    torch.accelerator.synchronize()
    text = bug(x)
    torch.accelerator.synchronize()
    (hazard,) = simulated.hazards()
    assert pytest.raises(AssertionError, match=text).matches(AssertionError(hazard))
    simulated.reset()


def test_disjoint_parts_of_a_block_do_not_meet(simulated, device):
    x = torch.zeros(4, 8, device=device)
    buffers = torch.empty(2, 16, pin_memory=True)
    side = torch.Stream()
    side.wait_stream(torch.accelerator.current_stream())
    x[:2].fill_(1)
    with side:
        x[2:].fill_(2)
        buffers[1].copy_(x[2:].flatten(), non_blocking=True)
    buffers[0].copy_(x[:2].flatten(), non_blocking=True)
    torch.accelerator.synchronize()
    assert buffers.tolist() == [[1] * 16, [2] * 16]
    assert simulated.hazards() == []


def test_a_wait_passes_on_what_the_other_stream_waited_for(simulated, x):
    first, second = torch.Stream(), torch.Stream()
    y = x * 2
    first.wait_stream(torch.accelerator.current_stream())
    second.wait_stream(first)
    with second:
        target = y.to("cpu", non_blocking=True)
    second.synchronize()
    assert target.tolist() == [0, 2, 4, 6]
    assert simulated.hazards() == []


def test_what_the_host_waited_for_every_stream_may_use(simulated, x):
    side = torch.Stream()
    side.wait_stream(torch.accelerator.current_stream())
    with side:
        x.copy_(pinned(5.0, 5, 5, 5), non_blocking=True)
    side.synchronize()
    y = x + 1
    torch.accelerator.synchronize()
    with torch.Stream():
        assert (y * 2).tolist() == [12] * 4
    assert simulated.hazards() == []


# Threads.


def test_streams_and_devices_are_per_thread(device):
    seen = []
    with torch.Stream():
        thread = threading.Thread(
            target=lambda: seen.append(torch.accelerator.current_stream())
        )
        thread.start()
        thread.join()
    assert seen == [torch.get_device_module(device).default_stream()]


def work(device, n_rounds, errors):
    try:
        stream = torch.Stream()
        with stream:
            for step in range(n_rounds):
                source = torch.full((64,), float(step)).pin_memory()
                x = source.to(device, non_blocking=True)
                target = (x * 2).to("cpu", non_blocking=True)
                stream.synchronize()
                assert target.tolist() == [2.0 * step] * 64
    except BaseException as error:  # noqa: BLE001 - the test below looks at it
        errors.put(error)


def test_many_threads(device):
    errors = SimpleQueue()
    start = functools.partial(threading.Thread, target=work, args=(device, 500, errors))
    threads = [start() for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors.empty(), errors.get()
