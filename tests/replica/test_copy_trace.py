import types
from collections import Counter, deque

import torch
from torch import nn

from sklearn_torch_bridge._replica import copy_module
from sklearn_torch_bridge._replica._copy_trace import CopyTrace, Kind, kind_of
from tests.tiny_models import Stateful, mlp


def traced(module):
    trace = CopyTrace()
    return copy_module(module, torch.clone, trace=trace), trace


def test_a_trace_has_what_was_read_and_what_became_of_it():
    module = mlp()
    module.table = {"a": [1]}
    own, trace = traced(module)
    reads = {id(read.source): read for read in trace.reads}
    assert trace.is_whole
    assert reads[id(module)].own is vars(own)
    assert reads[id(module.table)].own is own.table
    assert reads[id(module.table["a"])].values() == [1]
    assert any(one is module._forward_hooks for one in trace.idle)
    assert any(one is own._forward_hooks for one in trace.hooks)


def test_what_is_too_large_to_copy_was_not_read():
    module = mlp()
    module.table = {"a": [1], "b": [2] * 10_000}
    _, trace = traced(module)
    assert all(read.source is not module.table for read in trace.reads)


def test_a_trace_that_lacks_something_is_not_whole():
    module = mlp()
    module.bound = module.first.forward
    assert not traced(module)[1].is_whole
    module.bound = torch.Generator()
    own, trace = CopyTrace(), CopyTrace()
    copy_module(module, torch.clone, trace=trace)
    assert own.is_whole
    assert not trace.is_whole


def test_the_state_of_modules_of_torch_need_not_be_put_back():
    assert traced(mlp())[1].state().places() == {}
    assert traced(Stateful())[1].state().places() != {}


def test_kinds_of_holders():
    kinds = map(kind_of, [Counter(), deque(), [], types.SimpleNamespace()])
    expected = [Kind.MAPPING, Kind.SEQUENCE, Kind.SEQUENCE, Kind.OBJECT]
    assert [*kinds] == expected


def test_the_attributes_of_a_parameter_are_read():
    module = nn.Linear(2, 2)
    module.weight.extra = "a"
    _, trace = traced(module)
    assert [one.items for one in trace.reads if one.source is module.weight] == [
        {"extra": "a"}
    ] * (type(traced(module)[0].weight) is nn.Parameter)
