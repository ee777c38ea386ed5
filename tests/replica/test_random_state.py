"""What is drawn where no draw can be sent elsewhere does not show outside."""

import torch

from sklearn_torch_bridge._replica._random_state import (
    kept_random_state,
    seeding_noticed,
)

CPU = torch.device("cpu")


def test_random_numbers_drawn_inside_do_not_show_outside():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with kept_random_state(CPU):
        torch.rand(5)
    assert torch.equal(torch.rand(3), expected)


def test_random_state_is_kept_when_runs_overlap():
    """Each would put back what the other had drawn."""
    torch.manual_seed(0)
    before = torch.get_rng_state()
    outer, inner = kept_random_state(CPU), kept_random_state(CPU)
    outer.__enter__()
    torch.rand(1)
    inner.__enter__()
    torch.rand(1)
    outer.__exit__(None, None, None)
    torch.rand(1)
    inner.__exit__(None, None, None)
    assert torch.equal(torch.get_rng_state(), before)


def test_seeding_is_noticed_and_drawing_is_not():
    noticed = []
    with seeding_noticed(noticed):
        torch.rand(1)
        assert noticed == []
        torch.manual_seed(0)
    torch.manual_seed(0)
    assert noticed == ["manual_seed"]
