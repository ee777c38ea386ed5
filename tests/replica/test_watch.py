from contextlib import suppress

import pytest
import torch

from sklearn_torch_bridge._replica._findings import Draws, Findings
from sklearn_torch_bridge._replica._lent_tensors import Guard, extent
from sklearn_torch_bridge._replica._watch import RunAgainError, Watch
from sklearn_torch_bridge._torch_private import storage_key


def watch(*guarded, is_own=False, n_rows=2):
    findings = Findings()
    guards = {
        storage_key(one.untyped_storage()): [
            Guard(extent(one), {id(one): extent(one)}, is_own)
        ]
        for one in guarded
    }
    return Watch(findings, ("a",), guards, 0, n_rows), findings


def test_a_write_to_a_guarded_tensor_ends_the_forward_before_it():
    tensor = torch.ones(4)
    watching, findings = watch(tensor)
    with pytest.raises(RunAgainError), torch.inference_mode(), watching:
        tensor[1:3].mul_(2)
    assert tensor.tolist() == [1] * 4
    assert findings.written == {id(tensor): (0, 16)}


def test_a_write_beside_it_does_not():
    base = torch.ones(8)
    watching, findings = watch(base[:4])
    with torch.inference_mode(), watching:
        base[4:].mul_(2)
        torch.ones(3).add_(1)
    assert findings.written == {}


def test_a_write_to_a_copy_is_noted():
    tensor = torch.ones(4)
    watching, findings = watch(tensor, is_own=True)
    with torch.inference_mode(), watching:
        tensor.add_(1)
    assert findings.written == {id(tensor): (0, 16)}


def test_a_model_that_catches_all_is_seen():
    tensor = torch.ones(4)
    watching, _ = watch(tensor)
    with torch.inference_mode(), watching, suppress(BaseException):
        tensor.add_(1)
    assert watching.again is not None


@pytest.mark.parametrize(
    ("shape", "draws"), [((), Draws.NUMBERS), ((1,), Draws.ROWS)], ids=str
)
def test_single_numbers_are_told_from_tensors(shape, draws):
    watching, findings = watch()
    try:
        with watching:
            torch.rand(shape)
    except RunAgainError:
        assert draws is Draws.ROWS
    assert findings.draws == {("a",): draws}


def test_an_operation_of_higher_order_is_let_through():
    watching, _ = watch()
    with torch.inference_mode(), watching:
        found = torch.cond(torch.tensor(True), torch.sin, torch.cos, (torch.zeros(1),))
    assert found.tolist() == [0]
