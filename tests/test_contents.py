import zlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sklearn_torch_bridge._contents import contents, with_bytes
from tests.strategies import dense, shapes


@given(dense(shapes()))
def test_bytes_are_those_of_a_dense_copy(tensor):
    dense_copy = torch.empty(tensor.shape, dtype=tensor.dtype)
    dense_copy.copy_(tensor.detach().resolve_neg())
    assert with_bytes(tensor, bytes) == with_bytes(dense_copy, bytes)
    assert len(with_bytes(tensor, bytes)) == tensor.nbytes


@pytest.mark.parametrize(
    "view",
    [torch.conj, torch._neg_view],
    ids=["conjugate", "negative"],
)
def test_lazy_bits_are_resolved(view):
    """They change values, and leave the memory as it is."""
    z = torch.tensor([1 + 2j, 3j])
    assert contents(view(z)) == contents(view(z).resolve_conj().resolve_neg())
    assert contents(view(z)) != contents(z)


@given(st.integers(0, 999), st.integers(0, 31))
def test_every_flipped_bit_is_seen(place, bit):
    tensor = torch.linspace(-1, 1, 1_000)
    before = contents(tensor)
    tensor.view(torch.int32)[place] ^= 1 << bit if bit < 31 else -(2**31)
    assert contents(tensor) != before


def test_nothing_has_the_sum_of_nothing():
    assert contents(torch.empty(0, 3)) == ((0, 3), torch.float32, zlib.crc32(b""))
