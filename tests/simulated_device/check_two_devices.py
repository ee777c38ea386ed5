"""Two simulated devices, for SIMDEV_DEVICES=2: neither reads the other's memory."""

import pytest
import torch


def test_each_has_its_memory_and_its_current_stream(simulated, device):
    assert torch.accelerator.device_count() == 2
    other = torch.device(device.type, 1)
    simulated.set_cap(0, device=0)
    x = torch.ones(4, device=other)
    assert torch.accelerator.memory_allocated(1) == 512
    with pytest.raises(torch.OutOfMemoryError, match="simdev:0"):
        torch.ones(4, device=device)
    with torch.accelerator.device_index(1):
        assert torch.ones(1, device=device.type).device == other
        assert torch.accelerator.current_stream().device == other
    assert x.sum() == 4


def test_they_do_not_mix_but_copy(device):
    other = torch.device(device.type, 1)
    x, y = torch.ones(4, device=device), torch.ones(4, device=other)
    with pytest.raises(RuntimeError, match="simdev:0 and simdev:1"):
        x + y
    assert (x.to(other) + y).tolist() == [2] * 4
    with pytest.raises(RuntimeError, match="there are 2"):
        torch.ones(1, device=torch.device(device.type, 2))
