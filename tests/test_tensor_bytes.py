import gc
import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sklearn_torch_bridge import ConversionError
from sklearn_torch_bridge._tensor_bytes import (
    array_bytes,
    lacks_memory,
    new_hash,
    storage_bytes,
    tensor_bytes,
    tensor_checksum,
)
from tests.strategies import dense, shapes


# torch says so once, of the values that have a negative bit.
@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning")
@given(dense(shapes()))
def test_bytes_are_those_of_a_dense_copy(tensor):
    dense_copy = torch.empty(tensor.shape, dtype=tensor.dtype)
    dense_copy.copy_(tensor.detach().resolve_neg())
    assert tensor_bytes(tensor).tobytes() == tensor_bytes(dense_copy).tobytes()
    assert len(tensor_bytes(tensor)) == tensor.nbytes


def test_bytes_of_a_dense_tensor_are_a_view_that_keeps_it_alive():
    tensor = torch.arange(4.0)
    memory = tensor_bytes(tensor)
    tensor[0] = 7
    assert memory.view(np.float32)[0] == 7
    del tensor
    gc.collect()
    np.testing.assert_array_equal(memory.view(np.float32), [7, 1, 2, 3])


@pytest.mark.parametrize(
    "read",
    [tensor_bytes, lambda x: storage_bytes(x.untyped_storage(), 0, 4)],
    ids=["tensor", "storage"],
)
def test_reading_locks_no_storage(read):
    """As `Tensor.numpy` would: its owner could never resize it again."""
    tensor = torch.zeros(4)
    memory = read(tensor)
    tensor.untyped_storage().resize_(64)
    assert tensor.untyped_storage().nbytes() == 64
    del memory


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 12), (4, 8), (12, 12)])
def test_bytes_of_a_storage(start, stop):
    tensor = torch.arange(3, dtype=torch.int32)
    found = storage_bytes(tensor.untyped_storage(), start, stop - start)
    assert found.tobytes() == tensor.numpy().tobytes()[start:stop]


@pytest.mark.parametrize(
    "change",
    [np.asarray, np.asfortranarray, lambda X: X[:, ::-1], lambda X: X[:0]],
    ids=["C", "Fortran", "reversed", "empty"],
)
def test_bytes_of_an_array_are_those_of_its_rows_in_order(rng, change):
    X = change(rng.normal(size=(3, 4)))
    assert array_bytes(X).tobytes() == X.tobytes()
    assert np.shares_memory(array_bytes(X), X) == (X.flags.c_contiguous and X.size > 0)


def test_a_hash_may_begin_with_bytes():
    whole, begun = new_hash(), new_hash(b"ab")
    whole.update(b"ab")
    assert whole.digest() == begun.digest()
    assert begun.digest() == hashlib.blake2b(b"ab", digest_size=32).digest()


@pytest.mark.parametrize(
    "view",
    [torch.conj, torch._neg_view],
    ids=["conjugate", "negative"],
)
def test_lazy_bits_are_resolved(view):
    """They change values, and leave the memory as it is."""
    z = torch.tensor([1 + 2j, 3j])
    resolved = view(z).resolve_conj().resolve_neg()
    assert tensor_checksum(view(z)) == tensor_checksum(resolved)
    assert tensor_checksum(view(z)) != tensor_checksum(z)


LINE = 2 * 509  # floats: their sum is one of the checksums
LINES = 70  # more than are summed up at a time
values = st.integers(0, LINE * LINES + 5 - 1)  # the last five fill no line


@pytest.fixture(scope="module")
def weights():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(LINE * LINES + 5, generator=generator)


@given(values, st.integers(0, 31))
def test_every_flipped_bit_is_seen(weights, place, bit):
    tensor = weights.clone()
    tensor.view(torch.int32)[place] ^= 1 << bit if bit < 31 else -(2**31)
    assert tensor_checksum(tensor) != tensor_checksum(weights)


@given(values, values, values)
def test_values_that_change_places_are_seen(weights, one, two, three):
    tensor = weights.clone()
    tensor[[one, two, three]] = weights[[two, three, one]]
    is_same = tensor_checksum(tensor) == tensor_checksum(weights)
    assert is_same == torch.equal(tensor, weights)


CHANGES = {
    "negated": torch.neg,
    "one bit more": lambda x: x * (1 + 2**-23),
    "turned round": lambda x: x.flip(0),
    "moved by one": lambda x: x.roll(1),
    "moved by a line": lambda x: x.roll(LINE),
    "sorted": lambda x: x.sort().values,
    "lines turned round": lambda x: x[:-5].view(LINES, LINE).flip(0).flatten(),
    "columns turned round": lambda x: x[:-5].view(LINES, LINE).flip(1).flatten(),
    "transposed": lambda x: x[:-5].view(LINE, LINES).T.flatten(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changes_of_all_values_are_seen(weights, change):
    changed = change(weights)
    assert tensor_checksum(changed) != tensor_checksum(weights[: len(changed)])


@given(st.integers(0, 3 * LINE))
def test_the_length_is_seen(n_zeros):
    shorter, longer = torch.zeros(n_zeros), torch.zeros(n_zeros + 1)
    assert tensor_checksum(shorter)[2] != tensor_checksum(longer)[2]


def test_where_the_values_lie_does_not_count(weights):
    assert tensor_checksum(weights[1:]) == tensor_checksum(weights[1:].clone())


def test_nothing_has_a_sum():
    assert tensor_checksum(torch.empty(0, 3)) == tensor_checksum(torch.ones(0, 3))


VIEWS = {"whole": lambda x: x, "turned": lambda x: x.T, "row": lambda x: x[1]}


@pytest.mark.parametrize("read", [tensor_bytes, tensor_checksum])
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("n_bytes", [0, 4])
def test_memory_that_was_given_back_is_not_read(read, view, n_bytes):
    tensor = torch.ones(2, 3)
    seen = view(tensor)
    assert lacks_memory(seen) is None
    tensor.untyped_storage().resize_(n_bytes)
    with pytest.raises(ConversionError, match=f"its storage holds {n_bytes}: it was"):
        read(seen)


@pytest.mark.parametrize(
    "view", [lambda x: x[:1], lambda x: x[:1].expand(3, 3)], ids=["a", "b"]
)
def test_what_is_left_of_shrunk_memory_can_be_read(view):
    tensor = torch.ones(2, 3)
    seen = view(tensor)
    tensor.untyped_storage().resize_(12)
    assert lacks_memory(seen) is None
    assert lacks_memory(tensor[:0]) is None
