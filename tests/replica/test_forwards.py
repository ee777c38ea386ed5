import pytest
import torch
from torch import nn

from sklearn_torch_bridge._replica import RunAgainError, replica
from sklearn_torch_bridge._torch_private import count_modes
from sklearn_torch_bridge._types import Inputs


def modes_of_forwards(module, inputs):
    """Run a module on each of the inputs; count the dispatch modes in each forward."""
    counts = []

    def call(given):
        counts.append(count_modes())
        module(*given.args)

    for one in inputs:
        with replica(module, "cpu") as (_, _, forwards), torch.inference_mode():
            forwards.run(call, Inputs((one,)), len(one))
    return counts


def test_only_the_first_forward_of_a_kind_is_watched():
    rows = torch.ones(3, 4)
    kinds = [rows, rows, rows[:2], rows[:1], rows[:1], rows.double(), rows[None], rows]
    assert modes_of_forwards(nn.Identity(), kinds) == [1, 0, 0, 1, 0, 1, 1, 0]


def test_a_changed_module_is_watched_again():
    module, rows = nn.Sequential(nn.Linear(4, 4)), torch.ones(3, 4)
    assert modes_of_forwards(module, [rows, rows]) == [1, 0]
    with torch.no_grad():
        module[0].weight.add_(1)
    module.train(not module.training)
    assert modes_of_forwards(module, [rows]) == [0]
    module[0] = nn.Linear(4, 4)
    assert modes_of_forwards(module, [rows, rows]) == [1, 0]
    module.register_buffer("table", torch.ones(2))
    assert modes_of_forwards(module, [rows, rows]) == [1, 0]


def test_batches_are_watched_on_after_another_thread_has_drawn():
    """It could have been the model: the batch runs again, and is seen."""
    module, rows = nn.Identity(), torch.ones(3, 4)
    modes_of_forwards(module, [rows])
    with (
        replica(module, "cpu") as (_, _, forwards),
        torch.inference_mode(),
        pytest.raises(RunAgainError) as again,
    ):
        forwards.run(lambda _: torch.rand(1), Inputs((rows,)), 3)
    assert again.value.stays_watched
