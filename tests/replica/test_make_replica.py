import gc
import threading
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from sklearn_torch_bridge._devices import check_device, float_dtype
from sklearn_torch_bridge._replica._make_replica import _ELSEWHERE, replica
from tests.replica.test_module_copy import Capturing
from tests.tiny_models import Stateful, mlp

CPU = torch.device("cpu")


def snapshot(module):
    """All that a run could change, in a form that compares."""
    return {
        "modes": [part.training for part in module.modules()],
        "hooks": [len(part._forward_hooks) for part in module.modules()],
        "gradients": [p.requires_grad for p in module.parameters()],
        "devices": [p.device for p in module.parameters()],
        "values": [t.tolist() for t in module.state_dict().values()],
        "plain": {
            name: repr(value)
            for name, value in vars(module).items()
            if not name.startswith("_")
        },
    }


def test_the_replica_runs_in_eval_mode_and_the_module_stays_as_it_was():
    module = Stateful().train()
    module.norm.weight.requires_grad_(False)
    before = snapshot(module)
    with replica(module, "auto") as (own, place):
        assert not any(part.training for part in own.modules())
        assert not any(p.requires_grad for p in own.parameters())
        own(torch.ones(4, 3, device=place))
        assert own.count == 1
    assert snapshot(module) == before


def test_the_replica_sees_edits_that_no_version_counter_shows():
    module = mlp()
    X = torch.ones(1, 4)
    with replica(module, "cpu") as (own, _):
        first = own(X)
    module.second.bias.data += 1
    with replica(module, "cpu") as (own, _):
        torch.testing.assert_close(own(X), first + 1)


def test_random_numbers_drawn_inside_do_not_show_outside():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with replica(nn.Identity(), "cpu"):
        torch.rand(5)
    assert torch.equal(torch.rand(3), expected)


def test_random_state_is_kept_when_runs_overlap():
    """Each would put back what the other had drawn."""
    torch.manual_seed(0)
    before = torch.get_rng_state()
    outer = replica(nn.Identity(), "cpu")
    inner = replica(nn.Identity(), "cpu")
    outer.__enter__()
    torch.rand(1)
    inner.__enter__()
    torch.rand(1)
    outer.__exit__(None, None, None)
    torch.rand(1)
    inner.__exit__(None, None, None)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("raises", [False, True], ids=["returns", "raises"])
def test_what_cannot_be_copied_is_put_back(raises):
    module = Capturing(closure=True)
    module.norm = nn.BatchNorm1d(4)
    module.inner.eval()
    before = snapshot(module)
    expected = pytest.raises(RuntimeError, match="boom") if raises else nullcontext()
    with expected, replica(module, "auto") as (own, place):
        assert own is module
        assert place == CPU
        assert not module.training
        module.norm.running_mean += 1
        if raises:
            msg = "boom"
            raise RuntimeError(msg)
    assert snapshot(module) == before


def test_what_cannot_be_copied_is_used_by_one_thread_at_a_time():
    module = Capturing(closure=True)
    entered, leave, second_in = (threading.Event() for _ in range(3))

    def hold():
        with replica(module, "cpu"):
            entered.set()
            leave.wait(10)

    def follow():
        with replica(module, "cpu"):
            second_in.set()

    holder = threading.Thread(target=hold)
    follower = threading.Thread(target=follow)
    holder.start()
    assert entered.wait(10)
    follower.start()
    assert not second_in.wait(0.2)
    leave.set()
    assert second_in.wait(10)
    holder.join()
    follower.join()


def test_a_lazy_module_is_refused_with_the_name_of_its_parameter():
    module = nn.Sequential(nn.LazyLinear(2))
    expected = pytest.raises(ValueError, match=r"'0.weight' is uninitialised: run one")
    with expected, replica(module, "cpu"):
        pass


def test_a_module_without_values_is_refused():
    module = nn.Linear(2, 2, device="meta")
    expected = pytest.raises(ValueError, match="'weight' is on the meta device: load")
    with expected, replica(module, "cpu"):
        pass


@pytest.mark.parametrize("edit", ["in place", "data", "storage"])
def test_copies_on_another_device_follow_the_weights(edit):
    """Another CPU stands for it here; the rule looks at nothing else."""
    weight = nn.Parameter(torch.ones(3))
    elsewhere = torch.device("cpu", 0)
    before = _ELSEWHERE.get(weight, elsewhere)
    assert _ELSEWHERE.get(weight, elsewhere) is before
    if edit == "in place":
        with torch.no_grad():
            weight += 1
    elif edit == "data":
        weight.data.add_(1)
    else:
        weight.data = torch.full((3,), 2.0)
    assert _ELSEWHERE.get(weight, elsewhere).tolist() == [2, 2, 2]


def test_copies_on_another_device_go_with_the_weights():
    gc.collect()  # those of other tests
    weight = nn.Parameter(torch.ones(3))
    _ELSEWHERE.get(weight, CPU)
    held = len(_ELSEWHERE._copies)
    del weight
    gc.collect()
    assert len(_ELSEWHERE._copies) == held - 1


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
