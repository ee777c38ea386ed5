import copy
import functools
import threading
import types
from collections import defaultdict

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge._replica import copy_module, is_state
from sklearn_torch_bridge._replica._module_copy import NotCopyableError
from tests.tiny_models import Stateful, mlp


def shared(tensor):
    """Copy as replicas do on the same device."""
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(tensor.detach(), requires_grad=False)
    return tensor.clone()


ARCHITECTURES = {
    "mlp": (mlp, (2, 4)),
    "lstm": (lambda: nn.LSTM(4, 5, 2, batch_first=True), (2, 3, 4)),
    "gru": (lambda: nn.GRU(4, 5, bidirectional=True), (2, 3, 4)),
    "transformer": (
        lambda: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2
        ),
        (2, 3, 8),
    ),
    "weight norm": (
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)),
        (2, 4),
    ),
    "graph": (lambda: torch.fx.symbolic_trace(mlp()), (2, 4)),
    "batch norm": (lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2)), (3, 4)),
}


def first(value):
    return value[0] if isinstance(value, tuple) else value


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_copy_computes_the_same_without_new_weights(name):
    torch.manual_seed(0)
    make, shape = ARCHITECTURES[name]
    module = make().eval()
    copy = copy_module(module, shared)
    X = torch.randn(shape)
    with torch.inference_mode():
        torch.testing.assert_close(first(copy(X)), first(module(X)))
    ours = {id(part) for part in module.modules()}
    assert not ours & {id(part) for part in copy.modules()}
    assert [p.data_ptr() for p in copy.parameters()] == [
        p.data_ptr() for p in module.parameters()
    ]
    assert [n for n, _ in copy.named_modules()] == [
        n for n, _ in module.named_modules()
    ]


def test_flags_hooks_and_containers_are_the_copys_own():
    module = Stateful()
    module.names = {"a": [1, 2], "b": defaultdict(list, c=[3])}
    recorded = []
    module.register_forward_hook(lambda *_: recorded.append("caller"))
    copy = copy_module(module, shared).eval()
    copy.register_forward_hook(lambda *_: recorded.append("copy"))
    copy(torch.ones(2, 3))
    copy.names["a"].append(9)
    copy.names["b"]["c"].append(9)
    assert recorded == ["caller", "copy"]
    assert module.training
    assert module.count == 0
    assert module.history == []
    assert module.seen.item() == 0
    assert module.names == {"a": [1, 2], "b": {"c": [3]}}
    assert len(module._forward_hooks) == 1


def test_small_state_objects_are_copied_and_large_ones_shared():
    module = nn.Identity()
    module.state = types.SimpleNamespace(steps=0, inner=types.SimpleNamespace(n=[0]))
    module.trainer = types.SimpleNamespace(data=list(range(10_000)))
    module.counts = np.zeros(3)
    module.table = np.zeros(2**18)
    copy = copy_module(module, shared)
    copy.state.steps += 1
    copy.state.inner.n[0] += 1
    copy.counts += 1
    assert (module.state.steps, module.state.inner.n) == (0, [0])
    assert module.counts.tolist() == [0, 0, 0]
    assert copy.trainer is module.trainer
    assert copy.table is module.table


def test_what_cannot_be_copied_is_shared():
    module = nn.Identity()
    module.lock = threading.Lock()
    module.holder = types.SimpleNamespace(lock=module.lock)
    copy = copy_module(module, shared)
    assert copy.lock is module.lock
    assert copy.holder.lock is module.lock


def test_a_tensor_with_a_graph_among_the_attributes_is_copied():
    """copy.deepcopy refuses it, and old weight_norm leaves one."""
    module = mlp()
    module.cached = module(torch.ones(1, 4))
    copy = copy_module(module, shared)
    assert copy.cached.grad_fn is None
    assert torch.equal(copy.cached, module.cached)
    assert copy.cached.data_ptr() != module.cached.data_ptr()


def test_tied_and_shared_parts_stay_tied():
    module = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    module["b"].weight = module["a"].weight
    module["c"] = module["a"]
    copy = copy_module(module, shared)
    assert copy["b"].weight is copy["a"].weight
    assert copy["c"] is copy["a"]


def test_modules_in_lists_and_references_to_the_parent_are_followed():
    module = nn.Sequential(nn.Linear(2, 2))
    module.hidden = [nn.Linear(2, 2)]
    module[0].parent = [module]
    copy = copy_module(module, shared)
    assert copy[0].parent[0] is copy
    assert copy.hidden[0] is not module.hidden[0]
    assert copy.hidden[0].weight.data_ptr() == module.hidden[0].weight.data_ptr()


class Capturing(nn.Module):
    """Returns what a hook, bound to the module itself, has stored."""

    def __init__(self, *, closure=False):
        super().__init__()
        self.inner = nn.Linear(4, 2)
        self.captured = None
        if closure:
            self.inner.register_forward_hook(lambda *a: setattr(self, "captured", a[2]))
        else:
            self.inner.register_forward_hook(self.capture)

    def capture(self, module, args, value):
        self.captured = value

    def forward(self, x):
        self.inner(x)
        return self.captured


def test_hooks_bound_to_the_module_are_bound_to_the_copy():
    module = Capturing()
    copy = copy_module(module, shared)
    assert copy(torch.ones(1, 4)).shape == (1, 2)
    assert module.captured is None


def test_partials_and_methods_among_the_attributes_follow_too():
    module = mlp()
    module.bound = module.forward
    module.partial = functools.partial(type(module).forward, module)
    copy = copy_module(module, shared)
    assert copy.bound.__self__ is copy
    assert copy.partial.args == (copy,)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: torch.compile(nn.Linear(2, 2), backend="eager"), "compiled"),
        (lambda: Capturing(closure=True), "closes over a part"),
    ],
    ids=["compiled", "closure"],
)
def test_what_no_copy_could_follow_is_refused(make, words):
    with pytest.raises(NotCopyableError, match=words):
        copy_module(make(), shared)


def test_a_function_of_the_outside_is_no_hindrance():
    values = []
    module = nn.Identity()
    module.register_forward_hook(lambda *_: values.append(1))
    module.scale = lambda x: x * len(values)
    assert copy_module(module, shared).scale is module.scale


FAST = [  # torch's own that are copied without `copy.deepcopy`
    lambda: nn.Conv2d(3, 4, 3, padding_mode="circular"),
    lambda: nn.ConvTranspose1d(3, 4, 3),
    lambda: nn.BatchNorm2d(4),
    lambda: nn.Softmax(dim=1),
    lambda: nn.MultiheadAttention(8, 2),
    lambda: nn.TransformerEncoderLayer(8, 2, 16),
    lambda: nn.Embedding(5, 4),
    lambda: nn.LayerNorm(4),
]


@pytest.mark.parametrize("make", FAST, ids=lambda make: type(make()).__name__)
def test_modules_of_torch_are_copied_without_deepcopy(make, monkeypatch):
    """It takes half a millisecond for each: 27 for a ResNet-50."""
    module = make()
    monkeypatch.setattr(copy, "deepcopy", None)
    own = copy_module(module, shared)
    assert type(own) is type(module)
    assert vars(own).keys() == vars(module).keys()
    for name, tensor in module.state_dict().items():
        assert torch.equal(own.state_dict()[name], tensor)


class Settings:
    """Holds what a forward may write to."""


class Locked:
    """Takes care of its own copies."""

    def __deepcopy__(self, memo):
        return self


class Slotted:
    __slots__ = ("value",)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (types.SimpleNamespace(a=1), True),
        (Settings(), True),
        (Locked(), False),
        (Slotted(), False),
        (threading.Lock(), False),
    ],
    ids=["namespace", "settings", "with its own copy", "with slots", "lock"],
)
def test_state_is_what_has_a_dict_and_no_way_of_its_own(value, expected):
    assert is_state(value) is expected
