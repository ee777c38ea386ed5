import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge._replica import copy_module
from sklearn_torch_bridge._replica._copy_trace import CopyTrace
from sklearn_torch_bridge._replica._module_look import ModuleLook, is_atom, pick
from tests.tiny_models import mlp


def look_at(module):
    trace = CopyTrace()
    copy_module(module, torch.clone, trace=trace)
    return ModuleLook(trace)


def test_values_are_those_of_now_in_one_order():
    module = mlp()
    module.names = ["a"]
    look = look_at(module)
    values = look.values()
    assert values[look.places[id(module.first.bias)]] is module.first.bias
    assert values[look.starts[id(module.names)]] == "a"


@pytest.mark.parametrize("value", [1.5, 1, None, "b", [], {}, ()])
def test_another_value_shows(value):
    module = mlp()
    module.value = True
    look = look_at(module)
    module.value = value
    assert look.values() is None
    module.value = True
    assert look.values() is not None


def test_a_number_in_the_place_of_another_shows():
    """Its address is that of the one before, if nothing holds that."""
    module = mlp()
    module.value = float("2.5")
    look = look_at(module)
    module.value = None
    module.value = float("3.5")
    assert look.values() is None


def test_only_what_holds_nothing_else_is_held():
    held = [1, 2.0, "a", None, torch.float32, torch.tanh, nn.Linear, look_at]
    assert all(map(is_atom, held))
    free = [[], {}, (1, 2), np.ones(2), lambda x=[]: x, nn.Identity(), look_at(mlp())]
    assert not any(map(is_atom, free))


def test_places_are_picked():
    assert pick([2, 0])("abc") == ("c", "a")
