"""Layers of torch's own that would take rows for time steps are refused."""

import pytest
import torch
from torch import nn

from sklearn_torch_bridge._rows._rows_axis import check_rows_axis

LAYERS = {
    "GRU": lambda **k: nn.GRU(3, 4, **k),
    "LSTM": lambda **k: nn.LSTM(3, 4, **k),
    "RNN": lambda **k: nn.Sequential(nn.RNN(3, 4, **k)),
    "TransformerEncoderLayer": lambda **k: nn.TransformerEncoderLayer(4, 1, **k),
    "TransformerEncoder": lambda **k: nn.TransformerEncoder(
        nn.TransformerEncoderLayer(4, 1, **k), 1, enable_nested_tensor=False
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_with_steps_first_is_refused_with_the_way_out(name):
    with pytest.raises(ValueError, match=f"make its {name} with batch_first=True"):
        check_rows_axis(LAYERS[name](), 3)
    check_rows_axis(LAYERS[name](batch_first=True), 3)


@pytest.mark.parametrize("name", LAYERS)
def test_rows_without_an_axis_of_steps_are_refused_by_any_such_layer(name):
    with pytest.raises(ValueError, match=f"features for a {name}"):
        check_rows_axis(LAYERS[name](batch_first=True), 2)


def test_a_layer_behind_others_or_behind_a_hook_is_left_alone():
    check_rows_axis(nn.Sequential(nn.Identity(), nn.GRU(3, 4)), 3)
    layer = nn.GRU(3, 4)
    layer.register_forward_pre_hook(lambda _, args: (args[0].transpose(0, 1),))
    check_rows_axis(layer, 3)
    check_rows_axis(nn.Linear(3, 4), 2)
    check_rows_axis(type("Mine", (nn.GRU,), {"forward": torch.add})(3, 4), 3)
