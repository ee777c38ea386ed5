"""Random numbers drawn during runs do not show outside, also when runs overlap."""

import torch
from torch import nn

from sklearn_torch_bridge._replica import replica


def test_random_numbers_drawn_inside_do_not_show_outside():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with replica(nn.Identity(), "cpu"):
        torch.rand(5)
    assert torch.equal(torch.rand(3), expected)


def test_random_state_is_kept_when_runs_overlap():
    """Each would put back what the other had drawn."""
    torch.manual_seed(0)
    before = torch.get_rng_state()
    outer = replica(nn.Identity(), "cpu")
    inner = replica(nn.Identity(), "cpu")
    outer.__enter__()
    torch.rand(1)
    inner.__enter__()
    torch.rand(1)
    outer.__exit__(None, None, None)
    torch.rand(1)
    inner.__exit__(None, None, None)
    assert torch.equal(torch.get_rng_state(), before)
