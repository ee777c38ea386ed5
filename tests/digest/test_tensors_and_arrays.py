"""Tensors and arrays, by dtype, shape and values."""

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge._digest import _tensors_and_arrays, digest
from sklearn_torch_bridge._known import fingerprint_module


@pytest.mark.filterwarnings(
    "ignore:Sparse .* in beta:UserWarning"
)  # as torch says once
@pytest.mark.filterwarnings(
    "ignore:torch.quantize_per_tensor:UserWarning"
)  # and still used
def test_layouts_of_tensors_differ_and_each_is_read():
    values = torch.tensor([[1.0, 0.0], [2.0, 3.0]])
    layouts = {
        "strided": lambda x: x,
        "coo": torch.Tensor.to_sparse,
        "csr": torch.Tensor.to_sparse_csr,
        "csc": torch.Tensor.to_sparse_csc,
        "bsr": lambda x: x.to_sparse_bsr((1, 1)),
        "bsc": lambda x: x.to_sparse_bsc((1, 1)),
        "mkldnn": torch.Tensor.to_mkldnn,
        "quantised": lambda x: torch.quantize_per_tensor(x, 0.5, 0, torch.quint8),
    }
    digests = {digest(make(values)) for make in layouts.values()}
    digests |= {digest(make(values + 1)) for make in layouts.values()}
    assert len(digests) == 2 * len(layouts)


def test_tensors_that_wrap_others_count_by_their_parts():
    from torch.testing._internal.two_tensor import TwoTensor

    def parts(*numbers):
        return [torch.full((2,), float(number)) for number in numbers]

    pairs = [(1, 0), (0, 1), (1, 1), (0, 0)]
    digests = {digest(TwoTensor(*parts(*pair))) for pair in pairs}
    digests |= {digest(parts(*pair)) for pair in pairs}
    assert len(digests) == 2 * len(pairs)
    assert {digest(TwoTensor(*parts(*pair))) for pair in pairs} < digests


class Scaled(torch.Tensor):
    """Wraps a tensor, with a number that is in none of its parts."""

    @staticmethod
    def __new__(cls, inner, scale):
        made = torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)
        made.inner, made.scale = inner, scale
        return made

    def __tensor_flatten__(self):
        return ["inner"], {"scale": self.scale}

    @classmethod
    def __torch_dispatch__(cls, func, kinds, args=(), kwargs=None):
        raise NotImplementedError


def test_what_a_wrapping_tensor_adds_to_its_parts_counts():
    digests = [digest(Scaled(torch.ones(2), scale)) for scale in (1, 2, 1)]
    assert digests[0] == digests[2] != digests[1]


def test_memory_maps_count_as_arrays(tmp_path):
    """joblib sends large arrays to its workers as such."""
    np.save(tmp_path / "array.npy", np.arange(6))
    mapped = np.load(tmp_path / "array.npy", mmap_mode="r")
    assert digest(mapped) == digest(np.arange(6))


def test_weights_are_hashed_once_and_only_those_that_change_again(monkeypatch):
    hashed = []
    original = _tensors_and_arrays._digest_bytes
    monkeypatch.setattr(
        _tensors_and_arrays,
        "_digest_bytes",
        lambda m: hashed.append(len(m)) or original(m),
    )
    monkeypatch.setattr(_tensors_and_arrays, "_SMALL_BYTES", 0)
    net = nn.Sequential(nn.Linear(40, 40), nn.Linear(40, 40))
    first = fingerprint_module(net)
    assert len(hashed) == 4
    assert fingerprint_module(net) == first
    assert len(hashed) == 4
    net[1].bias.data[0] += 1
    fingerprint_module(net)
    assert hashed[4:] == [net[1].bias.nbytes]


def test_digests_of_tensors_go_with_them():
    known = _tensors_and_arrays._KNOWN
    weight = torch.ones(10_000)
    before = len(known)
    digest(weight)
    assert len(known) == before + 1
    del weight
    assert len(known) == before
