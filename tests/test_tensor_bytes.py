import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sklearn_torch_bridge._tensor_bytes import contents, with_bytes
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
    assert contents(tensor) != contents(weights)


@given(values, values, values)
def test_values_that_change_places_are_seen(weights, one, two, three):
    tensor = weights.clone()
    tensor[[one, two, three]] = weights[[two, three, one]]
    assert (contents(tensor) == contents(weights)) == torch.equal(tensor, weights)


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
    assert contents(changed) != contents(weights[: len(changed)])


@given(st.integers(0, 3 * LINE))
def test_the_length_is_seen(n_zeros):
    shorter, longer = torch.zeros(n_zeros), torch.zeros(n_zeros + 1)
    assert contents(shorter)[2] != contents(longer)[2]


def test_where_the_values_lie_does_not_count(weights):
    assert contents(weights[1:]) == contents(weights[1:].clone())


def test_nothing_has_a_sum():
    assert contents(torch.empty(0, 3)) == contents(torch.ones(0, 3))
