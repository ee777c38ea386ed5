"""Copies of weights on other devices follow the weights, and end with them."""

import gc

import pytest
import torch
from torch import nn

from sklearn_torch_bridge._replica import _weights_on_device
from sklearn_torch_bridge._replica._weights_on_device import (
    as_parameter,
    data_on_device,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize("edit", ["in place", "data", "storage"])
def test_copies_on_another_device_follow_the_weights(edit):
    """Another CPU stands for it here; the rule looks at nothing else."""
    weight = nn.Parameter(torch.ones(3))
    elsewhere = torch.device("cpu", 0)
    before = _weights_on_device._copy_on(weight, elsewhere)
    assert _weights_on_device._copy_on(weight, elsewhere) is before
    if edit == "in place":
        with torch.no_grad():
            weight += 1
    elif edit == "data":
        weight.data.add_(1)
    else:
        weight.data = torch.full((3,), 2.0)
    assert _weights_on_device._copy_on(weight, elsewhere).tolist() == [2, 2, 2]


def test_copies_on_another_device_go_with_the_weights():
    gc.collect()  # those of other tests
    weight = nn.Parameter(torch.ones(3))
    _weights_on_device._copy_on(weight, CPU)
    held = len(_weights_on_device._COPIES)
    del weight
    gc.collect()
    assert len(_weights_on_device._COPIES) == held - 1


class Marked(nn.Parameter):
    """A parameter of a class of its own."""


def test_weights_that_are_there_are_shared_and_frozen():
    weight = Marked(torch.ones(3))
    weight.note = "kept"
    own = as_parameter(weight, data_on_device(weight, CPU))
    assert type(own) is Marked
    assert own.data_ptr() == weight.data_ptr()
    assert own.note == "kept"
    assert not own.requires_grad
    assert weight.requires_grad
