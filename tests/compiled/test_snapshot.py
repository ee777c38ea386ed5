"""Whether a replica computes what another one did."""

import functools
import types

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge._compiled._snapshot import Snapshot
from sklearn_torch_bridge._replica._make_replica import replica


class Settings:
    def __init__(self):
        self.factor = 2.0
        self.nothing = float("nan")


class Rich(nn.Module):
    """Has a part of each kind that a replica has a copy of."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.tied = self.linear
        self.norm = nn.BatchNorm1d(3)
        self.settings = Settings()
        self.sizes = [1, (2, {"a": 3})]
        self.table = np.arange(4.0)
        self.loose = torch.ones(2)
        self.act = functools.partial(torch.clamp, min=0.0)
        self.ends = self.finish

    def finish(self, x):
        return x

    def forward(self, x):
        return self.ends(self.act(self.norm(self.linear(x))))


def fresh(module):
    with replica(module, "cpu") as (own, _, _):
        return own


def other_finish(_, x):
    return -x


CHANGES = {
    "a weight in place": lambda m: m.linear.weight.data.view(-1)[0].add_(1e-6),
    "a weight's data": lambda m: setattr(
        m.linear.weight, "data", m.linear.weight.data.clone()
    ),
    "a buffer": lambda m: m.norm.running_mean.add_(1),
    "a loose tensor": lambda m: m.loose.add_(1),
    "an array": lambda m: m.table.__setitem__(0, 9.0),
    "an attribute": lambda m: setattr(m, "scale", 3),
    "an attribute of a layer": lambda m: setattr(m.norm, "eps", 0.1),
    "a setting": lambda m: setattr(m.settings, "factor", 3.0),
    "a value deep in a list": lambda m: m.sizes[1][1].update(a=4),
    "a layer": lambda m: setattr(m, "linear", nn.Linear(3, 3)),
    "weights untied": lambda m: setattr(m, "tied", nn.Linear(3, 3)),
    "a hook": lambda m: m.linear.register_forward_hook(lambda *_: None),
    "a bound method": lambda m: setattr(m, "ends", types.MethodType(other_finish, m)),
    "an option": lambda m: setattr(m, "act", functools.partial(torch.clamp, min=1.0)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_noticed(change):
    module = Rich()
    snapshot = Snapshot(fresh(module), by_value=True)
    assert snapshot.matches(fresh(module))
    change(module)
    assert not snapshot.matches(fresh(module))


def test_another_forward_of_the_class_is_noticed(monkeypatch):
    module = Rich()
    snapshot = Snapshot(fresh(module), by_value=True)
    monkeypatch.setattr(Rich, "forward", lambda self, x: x)
    assert not snapshot.matches(fresh(module))


def test_training_and_what_runs_do_count_for_nothing():
    module = Rich()
    own = fresh(module)
    snapshot = Snapshot(own, by_value=True)
    own.train()(torch.ones(4, 3))  # writes to the buffers of this replica
    module.eval()
    assert snapshot.matches(fresh(module))


def test_weights_elsewhere_in_memory_are_compared_by_place():
    module = Rich()
    snapshot = Snapshot(fresh(module), by_value=False)
    module.linear.weight.data.add_(1)  # shared: what runs has it too
    assert snapshot.matches(fresh(module))
    module.linear.weight.data = module.linear.weight.data.clone()
    assert not snapshot.matches(fresh(module))
