import pytest
import torch
from torch import nn

from sklearn_torch_bridge._replica._lent_tensors import LentTensors, extent

CPU = torch.device("cpu")
LARGE = 100_000


def lent(module=None, written=None):
    return LentTensors(module or nn.Identity(), CPU, written or {})


def test_large_buffers_are_shared_and_small_ones_copied():
    large, small = torch.ones(LARGE), torch.ones(3)
    tensors = lent()
    assert tensors.of_module(large).data_ptr() == large.data_ptr()
    assert tensors.of_module(small).data_ptr() != small.data_ptr()
    assert tensors.of_attribute(large).data_ptr() == large.data_ptr()
    assert tensors.of_attribute(small).data_ptr() != small.data_ptr()


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.eye(300).to_sparse(),
        lambda: torch.eye(300).to_sparse_csr(),
        lambda: torch.quantize_per_tensor(torch.ones(LARGE), 0.1, 0, torch.qint8),
        lambda: torch.nested.nested_tensor([torch.ones(LARGE), torch.ones(2)]),
    ],
    ids=["COO", "CSR", "quantized", "nested"],
)
@pytest.mark.filterwarnings("ignore:.*(in beta|prototype|deprecated).*")
def test_what_is_no_plain_tensor_is_copied(make):
    tensor = make()
    tensors = lent()
    assert tensors.of_module(tensor) is not tensor
    assert tensors.shared == []
    tensors.guards()


@pytest.mark.parametrize("in_inference", [False, True])
def test_a_write_to_what_is_shared_shows_or_cannot_be_tracked(in_inference):
    with torch.inference_mode(in_inference):
        weight = nn.Parameter(torch.ones(3), requires_grad=False)
    tensors = lent()
    own = tensors.of_module(weight)
    with torch.no_grad(), torch.inference_mode(in_inference):
        weight.add_(1)
    assert not tensors.was_written()
    with torch.inference_mode():
        own.detach()[0].zero_()
    assert tensors.was_written() is not in_inference
    assert tensors.is_untracked is in_inference


def test_a_written_parameter_is_copied_and_put_back():
    weight = nn.Parameter(torch.ones(3))
    tensors = lent(written={id(weight): extent(weight)})
    own = tensors.of_module(weight)
    assert isinstance(own, nn.Parameter)
    assert not own.requires_grad
    with torch.inference_mode():
        own.mul_(2)
        assert weight.tolist() == [1, 1, 1]
        tensors.restore()
    assert own.tolist() == [1, 1, 1]
    assert not tensors.was_written()


def test_what_lies_in_the_same_memory_is_copied_together():
    base = torch.arange(12.0)
    one, two = base[2:6], base[4:8].view(torch.int32)
    module = nn.Module()
    for name, tensor in (("one", one), ("two", two), ("apart", base[9:])):
        module.register_buffer(name, tensor)
    tensors = lent(module)
    for tensor in module.buffers():
        tensors.of_module(tensor)
    (guards,) = {
        id(g.owners): g
        for gs in tensors.guards().values()
        for g in gs
        if id(one) in g.owners
    }.values()
    assert guards.owners.keys() == {id(one), id(two)}
    again = lent(module, dict(guards.owners))
    own_one, own_two = again.of_module(one), again.of_module(two)
    own_one[2:] = 0
    assert own_two.view(torch.float32).tolist() == [0, 0, 6, 7]
    assert base.tolist() == list(range(12))


def test_a_tensor_that_was_given_other_memory_since_is_copied_alone():
    weight = nn.Parameter(torch.ones(300))
    written = {id(weight): extent(weight)}
    for shorter in (torch.full((3,), 2.0), torch.full((900,), 2.0)[500:]):
        weight.data = shorter
        own = lent(written=written).of_module(weight)
        assert torch.equal(own, weight)
        assert own.data_ptr() != weight.data_ptr()


def test_generators_among_the_attributes_are_copied_and_put_back():
    generator = torch.Generator().manual_seed(3)
    before = generator.get_state()
    tensors = lent()
    own = tensors.of_attribute(generator)
    first = torch.rand(3, generator=own)
    tensors.restore()
    assert torch.equal(torch.rand(3, generator=own), first)
    assert torch.equal(generator.get_state(), before)
