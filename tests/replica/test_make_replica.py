import pytest
import torch
from torch import nn

from sklearn_torch_bridge._replica import replica
from tests.tiny_models import Stateful, mlp


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
    with replica(module, "auto") as (own, place, _):
        assert not any(part.training for part in own.modules())
        assert not any(p.requires_grad for p in own.parameters())
        own(torch.ones(4, 3, device=place))
        assert own.count == 1
    assert snapshot(module) == before


def test_the_replica_sees_edits_that_no_version_counter_shows():
    module = mlp()
    X = torch.ones(1, 4)
    with replica(module, "cpu") as (own, _, _):
        first = own(X)
    module.second.bias.data += 1
    with replica(module, "cpu") as (own, _, _):
        torch.testing.assert_close(own(X), first + 1)


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


@pytest.mark.parametrize("n_bytes", [0, 4])
@pytest.mark.parametrize("name", ["weight", "running_mean"])
def test_a_module_whose_memory_was_freed_is_refused(name, n_bytes):
    """Its forward would read what lies elsewhere, or end the process."""
    module = nn.BatchNorm1d(3)
    getattr(module, name).data.untyped_storage().resize_(n_bytes)
    expected = pytest.raises(ValueError, match=f"'{name}' was freed or resized: load")
    with expected, replica(module, "cpu"):
        pass
