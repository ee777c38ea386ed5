import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge._pickling import _segments
from sklearn_torch_bridge._pickling._segments import segments_of
from tests.tiny_models import mlp


@pytest.fixture
def few_bytes_are_large(monkeypatch):
    monkeypatch.setattr(_segments, "LARGE_BYTES", 100)


def tensors_of(module):
    return [*module.parameters(), *module.buffers()]


def arrays_of(module):
    return segments_of(module, tensors_of(module)).arrays


def read(segments, number, tensor):
    """Read a contiguous tensor where it is said to be."""
    array, start = segments.places[number]
    stop = start + tensor.numel() * tensor.element_size()
    data = torch.from_numpy(segments.arrays[array][start:stop].copy())
    return data.view(tensor.dtype).view(tensor.shape)


@pytest.mark.usefixtures("few_bytes_are_large")
def test_every_tensor_is_where_it_is_said_to_be():
    module = mlp(n_in=20)
    tensors = tensors_of(module)
    segments = segments_of(module, tensors)
    for number, tensor in enumerate(tensors):
        assert torch.equal(read(segments, number, tensor), tensor)


@pytest.mark.usefixtures("few_bytes_are_large")
def test_small_ones_are_put_together_and_large_ones_are_views():
    module = nn.Sequential(*(nn.Linear(8, 4) for _ in range(3)))  # 128 and 16 bytes
    arrays = arrays_of(module)
    assert [array.nbytes for array in arrays] == [128, 2 * 64 + 16, 128, 128]
    with torch.no_grad():
        module[1].weight.fill_(7)
    assert (arrays[2].view(np.float32) == 7).all()


def test_what_is_between_small_ones_is_zero():
    """It would be whatever the process had there, a password perhaps."""
    module = nn.Linear(3, 2)  # 24 and 8 bytes
    (array,) = arrays_of(module)
    assert array.nbytes == 64 + 8
    assert not array[24:64].any()


def test_shared_memory_is_there_once():
    storage = torch.arange(12.0)
    views = [storage[2:8], storage[6:10].view(2, 2).t(), storage[2:8], storage[11:]]
    segments = segments_of(nn.Module(), views)
    (array,) = segments.arrays
    found = array.view(np.float32)
    begins = [start // 4 for _, start in segments.places]
    assert begins[0] == begins[2]
    assert begins[1] == begins[0] + 4
    assert [found[begin] for begin in begins] == [2, 6, 2, 11]
    assert array.nbytes < 2 * 64 + 16


def test_what_no_tensor_looks_at_is_left_out():
    weights = torch.zeros(1_000_000)[:10]
    (array,) = segments_of(nn.Module(), [weights]).arrays
    assert array.nbytes == 40


def test_views_of_other_dtypes_are_found():
    storage = torch.arange(64, dtype=torch.uint8)
    tensors = [storage[3:20], storage[16:48].view(torch.complex128), storage[60:]]
    segments = segments_of(nn.Module(), tensors)
    assert [start % 16 for _, start in segments.places] == [3, 0, 12]
    for number, tensor in enumerate(tensors):
        assert torch.equal(read(segments, number, tensor), tensor)


def test_tensors_without_values_are_nowhere():
    segments = segments_of(nn.Module(), [torch.zeros(0), torch.zeros(3, 0)])
    assert segments == ([], [], [None, None])


EDITS = {
    "in place": lambda weight: weight.add_(1),
    "through data": lambda weight: weight.data.add_(1),
    "through an array": lambda weight: np.add(weight.numpy(), 1, out=weight.numpy()),
    "a value": lambda weight: weight.view(-1)[0].add_(1),
    "other memory": lambda weight: setattr(weight, "data", weight.data + 1),
}


def fused_step(weight):
    weight.requires_grad_().grad = torch.ones_like(weight)
    torch.optim.AdamW([weight], fused=True).step()


@pytest.mark.usefixtures("few_bytes_are_large")
@pytest.mark.parametrize("edit", [*EDITS.values(), fused_step], ids=[*EDITS, "fused"])
@pytest.mark.parametrize("part", ["weight", "bias"], ids=["large", "small"])
def test_arrays_are_the_same_objects_until_their_content_changes(part, edit):
    module = nn.Sequential(nn.Linear(8, 4), nn.Linear(8, 4)).requires_grad_(False)
    first = arrays_of(module)
    assert all(a is b for a, b in zip(arrays_of(module), first, strict=True))
    edit(getattr(module[0], part))
    second = arrays_of(module)
    changed = [a is not b for a, b in zip(first, second, strict=True)]
    assert changed == [part == "weight", part == "bias", False]
    assert all(a is b for a, b in zip(arrays_of(module), second, strict=True))


@pytest.mark.usefixtures("few_bytes_are_large")
@pytest.mark.parametrize("size", [10, 100], ids=["small", "large"])
def test_the_owner_may_still_resize_its_storage(size):
    """As FSDP does; `Tensor.numpy` would forbid it for good."""
    module = nn.Linear(size, 1, bias=False)
    before = module.weight.detach().clone()
    arrays_of(module)
    storage = module.weight.untyped_storage()
    assert storage.resizable()
    storage.resize_(0)
    with pytest.raises(ValueError, match="its storage holds 0: it was freed"):
        arrays_of(module)
    storage.resize_(4 * size)
    module.weight.data.copy_(before)
    (array,) = arrays_of(module)
    np.testing.assert_array_equal(array.view(np.float32), before.numpy()[0])


@pytest.mark.usefixtures("few_bytes_are_large")
def test_an_array_outlives_its_module():
    module = nn.Linear(1_000, 1_000, bias=False)
    expected = module.weight.detach().numpy().copy()
    (array,) = arrays_of(module)
    del module
    np.testing.assert_array_equal(array.view(np.float32).reshape(1_000, -1), expected)


def test_nothing_is_kept_for_a_module_that_is_gone():
    before = len(_segments._KNOWN)
    module = mlp()
    arrays_of(module)
    assert len(_segments._KNOWN) == before + 1
    del module
    assert len(_segments._KNOWN) == before
