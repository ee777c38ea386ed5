"""Modules of torch, by classes, weights, attributes and forward hooks."""

import copy
import functools
import pickle
import sys
from collections import OrderedDict

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - as its users call it
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.parametrizations import weight_norm

from sklearn_torch_bridge._digest import digest
from sklearn_torch_bridge._known import fingerprint_module
from tests.tiny_models import Stateful, mlp


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_packed_weights_count_by_their_values():
    def packed(values, bias=None):
        weight = torch.quantize_per_tensor(
            torch.tensor([values]), 0.5, 0, dtype=torch.qint8
        )
        return torch.ops.quantized.linear_prepack(weight, bias)

    variants = [
        ([1.0, 2.0],),
        ([1.0, 3.0],),
        ([1.0, 2.0], torch.ones(1)),
        ([1.0, 2.0], torch.zeros(1)),
    ]
    digests = {digest(packed(*variant)) for variant in variants}
    assert len(digests) == len(variants)
    assert {digest(packed(*variant)) for variant in variants} == digests


FACTOR = 1.5


def shrink(x):
    return x / FACTOR


class Net(nn.Module):
    """Has a part of each kind that a forward may read."""

    power = 2

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(40, 40)
        self.second = nn.Linear(40, 40)
        self.second.weight = self.first.weight
        self.norm = nn.BatchNorm1d(40)
        self.act = nn.ReLU()
        self.register_buffer("shift", torch.zeros(40))
        self.register_buffer("hidden", torch.zeros(40), persistent=False)
        self.function = F.relu
        self.bound = self.twice
        self.scale = 1.0
        self.table = {"a": [1, (2, "b")]}
        self.plain = torch.ones(3)
        self.listed = [torch.ones(3)]
        self.array = np.ones(3)
        self.apart = [nn.Linear(2, 2)]
        self.dtype = torch.float32
        self.missing = None

    def twice(self, x):
        return shrink(x) * self.power

    def forward(self, x):
        return self.bound(self.function(self.second(self.first(x))))


def through_data(net):
    net.first.weight.data[3, 4] += 1e-3


def through_other_data(net):
    net.first.bias.data = net.first.bias.data + 1


def through_numpy(net):
    net.first.weight.detach().numpy()[0, 0] = 7


def in_place(net):
    with torch.no_grad():
        net.second.bias[0] += 1


def by_a_fused_step(net):
    net(torch.ones(2, 40)).sum().backward()
    torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True).step()


def by_loading(net):
    state = {name: value + 1 for name, value in net.state_dict().items()}
    net.load_state_dict(state)


def by_pruning(net):
    prune.l1_unstructured(net.first, "weight", amount=0.5)


def by_parametrizing(net):
    parametrize.register_parametrization(net.first, "bias", nn.Tanh())


def in_the_order_of_parts(net):
    net.first, net.second = net.second, net.first


def in_the_names_of_parts(net):
    parts = net._modules
    net._modules = {f"{name}_": part for name, part in parts.items()}


def in_a_class(net):
    class Other(Net):
        def forward(self, x):
            return self.first(x)

    net.__class__ = Other


def untied(net):
    net.second.weight = nn.Parameter(net.second.weight.detach().clone())


def set_attribute(path, value):
    *owners, name = path.split(".")

    def edit(net):
        setattr(functools.reduce(getattr, owners, net), name, value)

    return edit


EDITS = {
    "a weight through data": through_data,
    "a weight by other data": through_other_data,
    "a weight through NumPy": through_numpy,
    "a weight in place": in_place,
    "weights by a fused optimizer": by_a_fused_step,
    "weights by loading": by_loading,
    "the dtype of weights": lambda net: net.double(),
    "half weights": lambda net: net.half(),
    "a buffer": lambda net: net.shift.add_(1),
    "a buffer that is not saved": lambda net: net.hidden.add_(1),
    "a buffer of a part": lambda net: net.norm.running_mean.add_(1),
    "tied weights": untied,
    "a pruned weight": by_pruning,
    "a parametrized weight": by_parametrizing,
    "a normed weight": lambda net: weight_norm(net.first),
    "an activation": set_attribute("act", nn.GELU()),
    "another epsilon": set_attribute("norm.eps", 1e-3),
    "another order of parts": in_the_order_of_parts,
    "other names of parts": in_the_names_of_parts,
    "another part": lambda net: net.add_module("third", nn.Identity()),
    "a part taken out": lambda net: net.add_module("act", None),
    "another class": in_a_class,
    "a number": set_attribute("scale", 2.0),
    "the type of a number": set_attribute("scale", 1),
    "a new attribute": set_attribute("new", None),
    "an attribute taken away": lambda net: delattr(net, "missing"),
    "a dtype": set_attribute("dtype", torch.float64),
    "deep in a table": lambda net: net.table["a"].append(3),
    "a tensor among the attributes": lambda net: net.plain.add_(1),
    "a tensor in a list": lambda net: net.listed[0].add_(1),
    "an array": lambda net: net.array.__setitem__(0, 5),
    "a module in a list": lambda net: net.apart[0].weight.data.add_(1),
    "a function": set_attribute("function", F.gelu),
    "a bound method": lambda net: setattr(net, "bound", Net().twice),
    "forward of one instance": set_attribute("forward", lambda x: x),
    "forward of a part": set_attribute("first.forward", lambda x: x),
    "an attribute of a weight": set_attribute("first.weight.note", 1),
    "a hook": lambda net: net.first.register_forward_hook(lambda *_: None),
    "a hook before": lambda net: net.first.register_forward_pre_hook(lambda *_: None),
    "a hook with keywords": lambda net: net.register_forward_hook(
        lambda *_: None, with_kwargs=True
    ),
}


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("seen", [False, True], ids=["new", "fingerprinted before"])
def test_every_edit_gives_another_fingerprint(name, seen):
    """Also in one object, which was looked at before it changed."""
    expected = fingerprint_module(Net())
    net = Net()
    if seen:
        assert fingerprint_module(net) == expected
    EDITS[name](net)
    changed = fingerprint_module(net)
    assert changed != expected
    assert fingerprint_module(net) == changed


def test_no_two_edits_give_the_same_fingerprint():
    found = {}
    for name, edit in EDITS.items():
        net = Net()
        edit(net)
        found.setdefault(fingerprint_module(net), []).append(name)
    assert [same for same in found.values() if len(same) > 1] == []


@pytest.mark.parametrize(
    ("owner", "name", "value"),
    [
        (Net, "power", 3),
        (Net, "twice", lambda self, x: x),
        (Net, "forward", lambda self, x: x),
        (Net, "extra", 1),
        (sys.modules[__name__], "FACTOR", 2.0),
        (sys.modules[__name__], "shrink", lambda x: x),
        (nn.Linear, "forward", lambda self, x: x),
        (nn.Module, "__call__", lambda self, x: x),
    ],
    ids=[
        *("class attribute", "method", "forward", "new attribute", "global"),
        *("function", "library's forward", "library's call"),
    ],
)
def test_code_that_was_changed_meanwhile_is_seen(monkeypatch, owner, name, value):
    net = Net()
    before = fingerprint_module(net)
    monkeypatch.setattr(owner, name, value, raising=False)
    assert fingerprint_module(net) != before
    monkeypatch.undo()
    assert fingerprint_module(net) == before


def test_hooks_count_by_what_they_do_and_in_their_order():
    def hooked(*hooks, **options):
        module = nn.Identity()
        for hook in hooks:
            module.register_forward_hook(hook, **options)
        return fingerprint_module(module)

    def double(*args):
        return args[-1] * 2

    def add(*args):
        return args[-1] + 1

    found = [
        hooked(),
        hooked(double),
        hooked(add),
        hooked(double, add),
        hooked(add, double),
        hooked(add, double, prepend=True),
        hooked(double, with_kwargs=True),
    ]
    assert found[3] == found[5]
    assert len(set(found)) == len(found) - 1
    assert hooked(double) == found[1]  # torch numbers hooks on and on


@pytest.mark.parametrize(
    "register",
    [
        nn.modules.module.register_module_forward_hook,
        nn.modules.module.register_module_forward_pre_hook,
    ],
    ids=["after", "before"],
)
def test_hooks_of_all_modules_count(register):
    before = fingerprint_module(nn.Identity())
    handle = register(lambda *args: None)
    changed = fingerprint_module(nn.Identity())
    handle.remove()
    assert changed != before
    assert fingerprint_module(nn.Identity()) == before


def with_gradients(net):
    net(torch.ones(2, 40)).sum().backward()


def in_another_layout(net):
    net.first.weight.data = net.first.weight.data.t().contiguous().t()


NO_EDITS = {
    "nothing": lambda net: None,
    "train": lambda net: net.train(),
    "eval": lambda net: net.eval(),
    "one part in eval mode": lambda net: net.norm.eval(),
    "frozen": lambda net: net.requires_grad_(False),
    "gradients": with_gradients,
    "a hook of the backward pass": lambda net: net.register_full_backward_hook(
        lambda *_: None
    ),
    "a hook of the state": lambda net: net.register_state_dict_post_hook(
        lambda *_: None
    ),
    "another layout": in_another_layout,
    "its own state": lambda net: net.load_state_dict(net.state_dict()),
    "there and back": lambda net: net.double().float(),
    "compiled in place": lambda net: net.compile(backend="eager"),
}


@pytest.mark.parametrize("name", NO_EDITS)
def test_what_changes_no_result_changes_no_fingerprint(name):
    net = Net()
    NO_EDITS[name](net)
    assert fingerprint_module(net) == fingerprint_module(Net())


@pytest.mark.parametrize(
    "duplicate",
    [
        copy.deepcopy,
        lambda net: pickle.loads(pickle.dumps(net)),  # noqa: S301 - our own bytes
        lambda net: torch.compile(net, backend="eager"),
    ],
    ids=["deepcopy", "pickle", "compiled"],
)
def test_copies_have_the_same_fingerprint(duplicate):
    assert fingerprint_module(duplicate(Net())) == fingerprint_module(Net())


ARCHITECTURES = {
    "linear": lambda: nn.Linear(4, 4),
    "linear without bias": lambda: nn.Linear(4, 4, bias=False),
    "bilinear": lambda: nn.Bilinear(4, 4, 4),
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "gelu, tanh": lambda: nn.GELU("tanh"),
    "identity": nn.Identity,
    "flatten": nn.Flatten,
    "flatten from 0": lambda: nn.Flatten(0),
    "softmax 0": lambda: nn.Softmax(0),
    "softmax 1": lambda: nn.Softmax(1),
    "dropout": nn.Dropout,
    "sequence": lambda: nn.Sequential(nn.ReLU(), nn.Tanh()),
    "sequence in another order": lambda: nn.Sequential(nn.Tanh(), nn.ReLU()),
    "sequence in a sequence": lambda: nn.Sequential(
        nn.Sequential(nn.ReLU(), nn.Tanh())
    ),
    "list": lambda: nn.ModuleList([nn.ReLU(), nn.Tanh()]),
    "named sequence": lambda: nn.Sequential(
        OrderedDict([("a", nn.ReLU()), ("b", nn.Tanh())])
    ),
    "convolution": lambda: nn.Conv2d(2, 2, 3),
    "convolution, padded": lambda: nn.Conv2d(2, 2, 3, padding=1),
    "convolution, other padding": lambda: nn.Conv2d(
        2, 2, 3, padding=1, padding_mode="circular"
    ),
    "lstm": lambda: nn.LSTM(4, 4),
    "lstm, batch first": lambda: nn.LSTM(4, 4, batch_first=True),
    "gru": lambda: nn.GRU(4, 4),
    "embedding": lambda: nn.Embedding(4, 4),
    "embedding, padded": lambda: nn.Embedding(4, 4, padding_idx=0),
    "embedding, normed": lambda: nn.Embedding(4, 4, max_norm=1.0),
    "transformer": lambda: nn.TransformerEncoderLayer(4, 2, 8),
    "transformer, norm first": lambda: nn.TransformerEncoderLayer(
        4, 2, 8, norm_first=True
    ),
    "transformer, gelu": lambda: nn.TransformerEncoderLayer(4, 2, 8, activation="gelu"),
    "weight norm": lambda: weight_norm(nn.Linear(4, 4)),
    "spectral norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)),
    "traced by fx": lambda: torch.fx.symbolic_trace(
        nn.Sequential(nn.ReLU(), nn.Tanh())
    ),
    "traced by fx, in another order": lambda: torch.fx.symbolic_trace(
        nn.Sequential(nn.Tanh(), nn.ReLU())
    ),
    "exported": lambda: torch.export.export(mlp(), (torch.ones(2, 4),)).module(),
    "exported, another": lambda: torch.export.export(
        nn.Sequential(nn.Tanh()), (torch.ones(2, 4),)
    ).module(),
    "stateful": Stateful,
    "data parallel": lambda: nn.DataParallel(nn.ReLU()),
}


def test_architectures_differ_where_weights_are_equal():
    found = {}
    for name, make in ARCHITECTURES.items():
        torch.manual_seed(0)
        module = make()
        for parameter in module.parameters():
            parameter.data.fill_(0.5)
        found.setdefault(fingerprint_module(module), []).append(name)
    assert [same for same in found.values() if len(same) > 1] == []


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_made_twice_agree(name):
    found = set()
    for _ in range(2):
        torch.manual_seed(0)
        found.add(fingerprint_module(ARCHITECTURES[name]()))
    assert len(found) == 1


def test_hooks_around_a_compiled_module_count():
    compiled = torch.compile(Net(), backend="eager")
    compiled.register_forward_hook(lambda *args: args[-1] * 2)
    assert fingerprint_module(compiled) != fingerprint_module(Net())


def test_a_part_named_as_that_of_a_compiled_module_hides_nothing():
    class Doubled(nn.Module):
        def __init__(self):
            super().__init__()
            self._orig_mod = nn.ReLU()

        def forward(self, x):
            return 2 * self._orig_mod(x)

    assert fingerprint_module(Doubled()) != fingerprint_module(nn.ReLU())


def test_modes_count_where_the_class_keeps_them():
    class Stubborn(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout()

        def train(self, mode=True):
            return self

    quiet = Stubborn()
    quiet.drop.eval()
    assert fingerprint_module(Stubborn()) != fingerprint_module(quiet)


def test_modules_that_point_at_each_other_end():
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    one.__dict__["next"], other.__dict__["next"] = other, one
    assert fingerprint_module(one) == fingerprint_module(one)
    assert fingerprint_module(one) != fingerprint_module(other)


def helper_in_script(x: torch.Tensor) -> torch.Tensor:
    return x * 2


def other_helper_in_script(x: torch.Tensor) -> torch.Tensor:
    return x * 3


class Scripted(nn.Module):
    def __init__(self, scale=1.0, names=("a",), helper=helper_in_script):
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Linear(2, 2)
        self.scale: float = scale
        self.names = list(names)
        self.helper = helper

    def forward(self, x):
        if len(self.names) > 1:
            return x
        return self.helper(self.inner(x)) * self.scale


class ScriptedLeft(nn.Module):
    def forward(self, x):
        return x

    @torch.jit.export
    def left(self, x):
        return -x


class ScriptedRight(nn.Module):
    def forward(self, x):
        return x

    @torch.jit.export
    def right(self, x):
        return -x


def traced(offset, function=torch.add):
    constant = torch.linspace(0, offset, 200)  # too long for the text of a graph
    return torch.jit.trace(lambda x: function(x, constant), torch.ones(200))


@pytest.mark.filterwarnings("ignore:.*torch.jit")
class TestScripted:
    """They run outside Python; `torch.jit` is deprecated, and its users still ours."""

    MAKE = {  # noqa: RUF012 - a table
        "scripted": lambda: torch.jit.script(Scripted()),
        "its plain module": Scripted,
        "an attribute": lambda: torch.jit.script(Scripted(scale=2.0)),
        "a list": lambda: torch.jit.script(Scripted(names=["a", "b"])),
        "a helper": lambda: torch.jit.script(Scripted(helper=other_helper_in_script)),
        "a method": lambda: torch.jit.script(ScriptedLeft()),
        "its name": lambda: torch.jit.script(ScriptedRight()),
        "traced": lambda: torch.jit.trace(Scripted(), torch.ones(1, 2)),
        "frozen": lambda: torch.jit.freeze(torch.jit.script(Scripted().eval())),
        "inside a module": lambda: nn.Sequential(torch.jit.script(Scripted())),
    }

    def test_what_differs_is_seen(self):
        found = {fingerprint_module(make()) for make in self.MAKE.values()}
        assert len(found) == len(self.MAKE)

    @pytest.mark.parametrize("name", MAKE)
    def test_made_twice_they_agree(self, name):
        """Though torch gives the second class another name."""
        one, other = self.MAKE[name](), self.MAKE[name]()
        one(torch.ones(1, 2))  # which optimizes its graph
        assert fingerprint_module(one) == fingerprint_module(other)

    @pytest.mark.parametrize(
        "edit",
        [
            lambda module: module.inner.weight.data.add_(1),
            lambda module: setattr(module, "scale", 3.0),
            lambda module: (
                module.names.append("b") or setattr(module, "names", ["a", "b"])
            ),
        ],
        ids=["weight", "number", "list"],
    )
    def test_edits_are_seen(self, edit):
        module = torch.jit.script(Scripted())
        before = fingerprint_module(module)
        edit(module)
        assert fingerprint_module(module) != before

    def test_functions(self):
        found = {
            digest(torch.jit.script(helper_in_script)),
            digest(torch.jit.script(other_helper_in_script)),
            digest(traced(1.0)),
            digest(traced(2.0)),
            digest(traced(2.0, torch.sub)),
        }
        assert len(found) == 5
        assert digest(traced(1.0)) in found
