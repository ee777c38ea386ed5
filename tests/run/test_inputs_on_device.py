"""Inputs are moved, however nested, and left alone where they are right."""

import torch

from sklearn_torch_bridge._run._inputs_on_device import on_device
from sklearn_torch_bridge._types import Inputs

META = torch.device("meta")


def test_a_lone_tensor_on_its_device_is_handed_on():
    inputs = Inputs((torch.ones(2),))
    assert on_device(inputs, torch.device("cpu")) is inputs
    assert on_device(inputs, META).args[0].device == META


def test_tensors_are_moved_wherever_they_are_and_the_rest_stays():
    flag = object()
    moved = on_device(
        Inputs(
            ({"x": [torch.ones(1), flag]},), {"y": (torch.ones(1),)}, torch.ones(1, 1)
        ),
        META,
    )
    assert moved.args[0]["x"][0].device == META
    assert moved.args[0]["x"][1] is flag
    assert moved.kwargs["y"][0].device == META
    assert moved.mask.device == META
