"""Which device is meant, and which dtype a module computes in."""

import pytest
import torch
from torch import nn

from sklearn_torch_bridge._devices import (
    check_device,
    current_accelerator,
    device_types,
    float_dtype,
    is_on,
)
from tests.tiny_models import mlp


@pytest.mark.parametrize("device", ["cuda", "mps", torch.device("xpu")], ids=str)
def test_a_device_that_is_not_here_is_refused(device):
    if torch.accelerator.is_available():
        pytest.skip("this machine has an accelerator")
    with pytest.raises(ValueError, match=r"`device` must be available.*has cpu"):
        check_device(device)


def test_the_dtype_is_that_of_the_first_floating_tensor():
    assert float_dtype(mlp().double()) == torch.float64
    assert float_dtype(mlp().to(torch.bfloat16)) == torch.bfloat16
    assert float_dtype(nn.Identity()) == torch.get_default_dtype()


def test_the_cpu_is_always_here():
    assert "cpu" in device_types()
    assert check_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("is_here", [True, False])
def test_auto_is_the_accelerator_where_there_is_one(monkeypatch, is_here):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: is_here)
    monkeypatch.setattr(
        torch.accelerator, "current_accelerator", lambda: torch.device("xpu")
    )
    assert current_accelerator() == (torch.device("xpu") if is_here else None)
    assert device_types() == ({"cpu", "xpu"} if is_here else {"cpu"})
    assert check_device("auto").type == ("xpu" if is_here else "cpu")


@pytest.mark.parametrize("device", ["graphics", 1.5], ids=str)
def test_what_names_no_device_is_refused(device):
    with pytest.raises(ValueError, match="must be 'auto' or a torch device, got"):
        check_device(device)


def test_a_device_without_index_means_any_of_its_kind():
    tensor = torch.ones(1, device=torch.device("meta", 1))
    assert is_on(tensor, torch.device("meta"))
    assert is_on(tensor, tensor.device)
    assert not is_on(tensor, torch.device("cpu"))


def test_a_device_with_another_index_is_another():
    tensor = torch.ones(1, device="meta")
    assert not is_on(tensor, torch.device("meta", 1))
