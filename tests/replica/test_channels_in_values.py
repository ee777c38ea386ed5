"""Modules show where their channels are, by what they run on."""

import pytest
import torch
from torch import nn

from sklearn_torch_bridge._replica._channels_in_values import calls_of, channels_axis


def calls(module, *shape):
    with calls_of(module) as found, torch.inference_mode():
        module.eval()(torch.zeros(shape))
    assert not any(part._forward_hooks for part in module.modules())
    return found


@pytest.mark.parametrize(
    ("module", "shape", "axis"),
    [
        (nn.Conv2d(6, 8, 3), (2, 6, 5, 5), 1),
        (nn.Conv2d(6, 6, 7, 7, groups=6), (2, 6, 7, 7), 1),
        (nn.ConvTranspose2d(6, 8, 2), (2, 6, 5, 5), 1),
        (nn.BatchNorm2d(6), (2, 6, 6, 6), 1),
        (nn.GroupNorm(2, 6), (2, 6, 6, 6), 1),
        (nn.PReLU(6), (2, 6, 6, 6), 1),
        (nn.Conv3d(6, 8, 1), (2, 6, 5, 5, 5), 1),
        (nn.Conv1d(6, 8, 1), (2, 6, 5), 1),
        (nn.Linear(6, 8), (2, 6, 6, 6), 3),
        (nn.LayerNorm(6), (2, 6, 6, 6), 3),
        (nn.RMSNorm(6), (2, 5, 6), 2),
        (nn.MaxPool2d(2), (2, 6, 6, 6), 1),
        (nn.AdaptiveAvgPool2d(1), (2, 6, 5, 5), 1),
        (nn.Upsample(scale_factor=2), (2, 6, 5, 5), 1),
        (nn.AvgPool2d(3, 1, 1), (2, 6, 5, 5), None),
        (nn.LayerNorm((6, 5, 5)), (2, 6, 5, 5), None),
        (nn.ReLU(), (2, 6, 5, 5), None),
        (nn.Flatten(2), (2, 6, 5, 5), None),
        (nn.Unflatten(2, (5, 1)), (2, 6, 5), None),
    ],
    ids=str,
)
def test_a_module_shows_its_channels_or_nothing(module, shape, axis):
    (call,) = calls(module, *shape)
    assert call.channels() == axis


def test_calls_with_several_tensors_or_vectors_are_left_out():
    bilinear = nn.Bilinear(3, 3, 2)
    with calls_of(bilinear) as found:
        bilinear(torch.zeros(2, 4, 3), torch.zeros(2, 4, 3))
    assert not found
    assert not calls(nn.Linear(3, 2), 4, 3)


def test_longer_inputs_decide_where_sizes_are_equal():
    found = calls(nn.Conv2d(3, 8, 1), 2, 3, 8, 8)
    shape = (2, 8, 8, 8)
    assert channels_axis(shape, found, list) == 1
    longer = [(2, 16, 8, 8), (2, 8, 16, 8)]
    assert channels_axis(shape, found, lambda: longer) == 3


def test_what_is_not_in_doubt_asks_for_no_longer_input():
    found = calls(nn.Conv2d(3, 8, 1), 2, 3, 5, 5)

    def refuse():
        raise AssertionError

    assert channels_axis((2, 8, 5, 5), found, refuse) == 1
    assert channels_axis((2, 5, 5, 8), found, refuse) == 3
    assert channels_axis((2, 5, 5, 8), [], list) == 1


def test_without_modules_space_follows_that_of_the_inputs():
    shape = (2, 5, 7, 3)
    longer = [(2, 5, 7, 6), (2, 10, 7, 3), (2, 5, 14, 3)]
    assert channels_axis(shape, [], lambda: longer) == 3
    assert channels_axis(shape, [], lambda: [shape, *longer[1:]]) == 3
    assert channels_axis((2, 3, 5, 7), [], lambda: [(2, 3, 10, 7), (2, 3, 5, 14)]) == 1
