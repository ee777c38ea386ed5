"""Padding masks: what is made for a model is read as it was meant."""

import pytest
import torch

from sklearn_torch_bridge.models import MASKS, read_mask

REAL = torch.tensor([[True, True, False], [True, False, False]])


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_that_is_made_is_read_as_what_is_real(name):
    read = read_mask({"x": torch.ones(2, 3), name: MASKS[name].make(REAL)})
    assert torch.equal(read.bool(), REAL)


def test_floats_of_torchs_layers_hide_by_minus_infinity_alone():
    bias = torch.tensor([[0.5, -torch.inf, torch.finfo(torch.float32).min]])
    assert read_mask({"src_key_padding_mask": bias}).tolist() == [[True, False, False]]


@pytest.mark.parametrize(
    "kwargs",
    [{}, {"mask": REAL}, {"attention_mask": None}, {"attention_mask": REAL[0]}],
    ids=["nothing", "another name", "None", "one axis"],
)
def test_anything_else_is_no_mask(kwargs):
    assert read_mask(kwargs) is None
