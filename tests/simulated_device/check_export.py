"""Modules on an accelerator: pickled by way of the CPU, back on what is available."""

import copy
import pickle
import subprocess
import sys

import joblib
import torch
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge._devices import available
from sklearn_torch_bridge._pickling._segments import segments_of
from tests.tiny_models import mlp


def there_and_back(obj):
    return pickle.loads(pickle.dumps(obj))  # noqa: S301 - our own bytes


def test_a_module_comes_back_to_its_device(device):
    module = mlp(n_in=600, n_out=600).to(device)
    found = there_and_back(TorchFeatureExtractor(module)).model
    for ours, theirs in zip(found.parameters(), module.parameters(), strict=True):
        assert ours.device == theirs.device
        assert torch.equal(ours.cpu(), theirs.cpu())


def test_ties_and_views_hold_on_the_device(device):
    module = nn.Module()
    flat = torch.arange(12.0, device=device)
    module.whole, module.part = nn.Parameter(flat), nn.Parameter(flat[4:8].view(2, 2))
    module.again = module.part
    found = there_and_back(TorchFeatureExtractor(module)).model
    assert found.again is found.part
    found.whole.data.zero_()
    assert found.part.cpu().eq(0).all()
    assert module.part.cpu().tolist() == [[4, 5], [6, 7]]


def test_a_module_on_two_devices_is_so_again(device):
    module = mlp()
    module.second.to(device)
    found = there_and_back(TorchFeatureExtractor(module)).model
    assert found.first.weight.device.type == "cpu"
    assert found.second.weight.device == module.second.weight.device


def test_arrays_stay_the_same_objects_until_the_content_changes(device):
    module = mlp(n_in=60_000).to(device)
    tensors = [*module.parameters()]
    first = segments_of(module, tensors).arrays
    assert [array.nbytes > 1 << 20 for array in first] == [True, False]
    again = segments_of(module, tensors).arrays
    assert all(a is b for a, b in zip(first, again, strict=True))
    module.first.weight.data.add_(1)
    changed = segments_of(module, tensors).arrays
    assert [a is b for a, b in zip(first, changed, strict=True)] == [False, True]


def test_the_cpu_takes_over_where_there_is_no_such_device(device, tmp_path):
    module = mlp().to(device)
    path = tmp_path / "dump"
    joblib.dump(TorchFeatureExtractor(module), path)
    code = (
        f"import joblib; model = joblib.load({str(path)!r}).model; "
        "print(model.first.weight.device, model.first.weight.sum().item())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    place, total = run.stdout.split()
    if place != "cpu":  # a real accelerator is there in every process
        assert place == str(module.first.weight.device)
    assert float(total) == module.first.weight.cpu().sum().item()


def test_another_of_its_kind_takes_over_where_the_index_is_too_high(device):
    n_devices = torch.accelerator.device_count()
    far, near = f"{device.type}:{n_devices}", f"{device.type}:{n_devices - 1}"
    assert available(far) == torch.device(device.type)
    assert available(near) == torch.device(near)
    assert available("a_kind_unheard_of:3") == torch.device("cpu")


def test_a_deep_copy_stays_on_the_device(device):
    module = mlp().to(device)
    found = copy.deepcopy(TorchFeatureExtractor(module)).model
    assert found.first.weight.device == module.first.weight.device
