"""Weights come back to the last bit, or it is said why they cannot."""

import copy
import os
import shutil
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import given
from torch import nn

from sklearn_torch_bridge import share
from sklearn_torch_bridge._storing._saved_folder import WEIGHTS
from tests.saved_extractors import LOAD, assert_same_values, saved
from tests.tiny_models import mlp
from tests.zoo import GENERATED_DTYPES, MODULES, modules, named, tied

STORED_DTYPES = [one for one in GENERATED_DTYPES if one is not torch.complex128]


def without_complex128():
    module = MODULES["dtypes"]()
    del module.of_complex128
    return module


BUILDERS = MODULES | {
    "dtypes": without_complex128,
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)),
    "attention": lambda: nn.MultiheadAttention(4, 2),
}


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("given_as", ["callable", "module", "handle"])
def test_the_weights_come_back(folder, name, given_as):
    torch.manual_seed(0)
    module = BUILDERS[name]()
    expected = copy.deepcopy(module)
    saved(folder, module)
    other = BUILDERS[name]()
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.untyped_storage().fill_(0)
    before = copy.deepcopy(other)
    model = {"callable": BUILDERS[name], "module": other, "handle": share(other)}
    found = LOAD(folder, model[given_as]).model
    assert type(found).__name__ == type(module).__name__
    assert_same_values(found, expected)
    assert_same_values(other, before)
    assert found is not other


@given(module=modules(STORED_DTYPES))
def test_generated_modules_come_back(tmp_path_factory, module):
    folder = tmp_path_factory.mktemp("parent") / "saved"
    expected = copy.deepcopy(module)
    saved(folder, module)
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.untyped_storage().fill_(0)
    found = LOAD(folder, module).model
    for name, tensor in (*expected.named_parameters(), *expected.named_buffers()):
        ours = dict(named(found))[name]
        torch.testing.assert_close(ours, tensor, rtol=0, atol=0)
    shutil.rmtree(folder)


def test_ties_are_those_of_the_architecture_and_stored_once(folder):
    saved(folder, tied())
    found = LOAD(folder, tied).model
    assert found[0].weight is found[1].weight is found[2].weight
    header = int.from_bytes((folder / WEIGHTS).read_bytes()[:8], "little")
    data = (folder / WEIGHTS).stat().st_size - 8 - header
    assert data == sum(weight.nbytes for weight in tied().parameters())


def test_conjugate_and_negative_views_are_stored_by_value(folder):
    def make(value):
        module, values = nn.Module(), torch.full((2,), value)
        module.register_buffer("plain", values)
        module.register_buffer("conjugate", values.conj())
        module.register_buffer("negative", values.conj().imag)
        return module

    saved(folder, make(1 + 2j))
    found = LOAD(folder, make(0j)).model
    assert found.plain.tolist() == [1 + 2j] * 2
    assert found.conjugate.tolist() == [1 - 2j] * 2
    assert found.negative.tolist() == [-2] * 2


def test_others_may_read_the_weights(folder):
    from safetensors.torch import load_file

    module = mlp()
    saved(folder, module)
    other = mlp(seed=1)
    other.load_state_dict(load_file(folder / WEIGHTS))
    assert_same_values(other, module)


def test_the_module_saved_stays_as_it_was(folder):
    module = nn.Linear(600, 600, bias=False)
    module.train().register_forward_hook(print)
    before = module.weight.detach().clone()
    saved(folder, module)
    assert module.training
    assert module.weight.requires_grad
    assert torch.equal(module.weight, before)
    assert module.weight.untyped_storage().resizable()


def other(**layers):
    return nn.Sequential(OrderedDict(mlp().named_children()) | layers)


MISFITS = {
    "missing": (
        lambda: other(second=nn.Identity()),
        r"must have 'second.bias' \(float32 \[3\]\), as saved",
    ),
    "surplus": (
        lambda: other(third=nn.Linear(3, 1)),
        r"has 'third.bias' \(float32 \[1\]\), which was not saved",
    ),
    "shape": (
        lambda: other(first=nn.Linear(5, 8)),
        r"'first.weight' as float32 \[8, 4\], as saved; got float32 \[8, 5\]",
    ),
    "dtype": (
        lambda: other().half(),
        r"as float32 \[.*\], as saved; got float16 \[",
    ),
}


@pytest.mark.parametrize("name", MISFITS)
def test_another_architecture_is_told(folder, name):
    model, words = MISFITS[name]
    saved(folder)
    with pytest.raises(ValueError, match=f"`model` .*{words}"):
        LOAD(folder, model)


class Extra(nn.Linear):
    def get_extra_state(self):
        return {"any": object()}


def freed():
    module = nn.Linear(2, 2)
    module.weight.data.untyped_storage().resize_(4)
    return module


UNSTORABLE = {
    "freed": (freed, "'weight' was freed or resized: it needs 16 bytes"),
    "lazy": (lambda: nn.LazyLinear(3), "'weight' is uninitialised: run one forward"),
    "meta": (lambda: nn.Linear(2, 2, device="meta"), "'weight' is on the meta device"),
    "extra state": (lambda: Extra(2, 2), "'_extra_state' is no tensor but dict"),
    "complex": (MODULES["dtypes"], "tensor of torch.complex128, which safetensors"),
}


def with_sparse_buffer():
    module = nn.Linear(2, 2)
    module.register_buffer("sparse", torch.eye(2).to_sparse())
    return module


def with_wrapped_buffer():
    from torch.testing._internal.two_tensor import TwoTensor

    module = nn.Linear(2, 2)
    module.register_buffer("wrapped", TwoTensor(torch.ones(2), torch.ones(2)))
    return module


UNSTORABLE["sparse"] = (with_sparse_buffer, "'sparse' is not dense")


UNSTORABLE["wrapped"] = (with_wrapped_buffer, "'wrapped' is a TwoTensor")


@pytest.mark.parametrize("name", UNSTORABLE)
def test_a_state_of_more_than_dense_tensors_is_told(folder, name):
    make, words = UNSTORABLE[name]
    with pytest.raises(ValueError, match=f"`model` .*{words}"):
        saved(folder, make())
    assert not folder.exists()


def test_a_missing_package_names_its_extra(folder, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    words = r"pip install 'sklearn-torch-bridge\[safetensors\]'"
    with pytest.raises(ImportError, match=words):
        saved(folder)
    assert not folder.exists()


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "flipped": (flip_a_bit, "must have the weights that were saved; their digest"),
    "cut": (lambda path: os.truncate(path, 200), "must be a whole file of weights"),
    "gone": (Path.unlink, "must be a whole file of weights"),
    "text": (lambda path: path.write_text("hello"), "must be a whole file of weights"),
    "empty": (lambda path: path.write_bytes(b""), "must be a whole file of weights"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_weights_are_told(folder, name):
    damage, words = DAMAGES[name]
    saved(folder)
    damage(folder / WEIGHTS)
    with pytest.raises(ValueError, match=words):
        LOAD(folder, mlp)


def test_the_weights_of_another_are_told(folder, tmp_path):
    saved(folder)
    saved(tmp_path / "other", mlp(seed=1))
    shutil.copy(tmp_path / "other" / WEIGHTS, folder / WEIGHTS)
    with pytest.raises(ValueError, match="the weights that were saved; their digest"):
        LOAD(folder, mlp)
    saved(tmp_path / "third", nn.Linear(4, 4))
    shutil.copy(tmp_path / "third" / WEIGHTS, folder / WEIGHTS)
    with pytest.raises(ValueError, match=r"the stored file must have 'first\.bias'"):
        LOAD(folder, mlp)


def test_weights_without_our_header_are_told(folder):
    from safetensors.torch import save_file

    saved(folder)
    save_file(mlp().state_dict(), folder / WEIGHTS)
    with pytest.raises(ValueError, match="must be a whole file of weights, as saved"):
        LOAD(folder, mlp)
