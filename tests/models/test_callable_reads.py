"""A callable that would find something else is called again."""

import inspect
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge.cache import EmbeddingCache
from sklearn_torch_bridge.models._callable_reads import CallableReads

NET = nn.Identity()


def build():
    return NET


def through_another():
    return build()


class Holder:
    def __init__(self, net):
        self.net = net

    def build(self):
        return self.net

    __call__ = build


def closure(net):
    def rebind(other):
        nonlocal net
        net = other

    return (lambda: net), rebind


def in_a_container(nets):
    return lambda: nets["best"]


def with_size(sizes):
    return lambda: nn.Linear(sizes.width, 1)


def callables():
    holder, nets, sizes = Holder(NET), {"best": NET}, SimpleNamespace(width=2_000)
    made, rebind = closure(NET)
    return {
        "closure": (made, lambda: rebind(nn.ReLU())),
        "method": (holder.build, lambda: setattr(holder, "net", nn.ReLU())),
        "object": (holder, lambda: setattr(holder, "net", nn.ReLU())),
        "container": (
            in_a_container(nets),
            lambda: nets.__setitem__("best", nn.ReLU()),
        ),
        "number": (with_size(sizes), lambda: setattr(sizes, "width", 2_001)),
        "partial": (partial(made), lambda: rebind(nn.ReLU())),
        "argument": (
            partial(Holder.build, holder),
            lambda: setattr(holder, "net", nn.ReLU()),
        ),
    }


@pytest.mark.parametrize("name", callables())
def test_what_is_bound_anew_is_seen(name):
    model, change = callables()[name]
    reads = CallableReads(model)
    assert reads.are_current(model)
    change()
    assert not reads.are_current(model)


@pytest.mark.parametrize("model", [build, through_another], ids=["its", "called"])
def test_a_global_that_is_bound_anew_is_seen(model, monkeypatch):
    reads = CallableReads(model)
    assert reads.are_current(model)
    monkeypatch.setitem(globals(), "NET", nn.ReLU())
    assert not reads.are_current(model)


@pytest.mark.parametrize("model", [nn.ReLU, partial(nn.Linear, 2, 2), lambda: NET])
def test_what_never_changes_stays(model):
    reads = CallableReads(model)
    assert reads.are_current(model)


def reading(*names):
    """Return a function that reads a file by its names, as they are joined."""
    return lambda: nn.Linear(int(Path(*names).read_text("utf-8")), 1)


@pytest.mark.parametrize("kind", ["path", "str", "joined", "absent", "folder"])
def test_a_file_that_is_named_is_looked_at(kind, tmp_path):
    file = tmp_path / "width.txt"
    if kind != "absent":
        file.write_text("2", "utf-8")
    names = (tmp_path, file.name) if kind == "joined" else (file,)
    if kind == "folder":  # with a saved model
        (tmp_path / "config.json").write_text("{}", "utf-8")
        names = (tmp_path,)
    model = reading(*map(str, names)) if kind == "str" else reading(*names)
    reads = CallableReads(model)
    assert reads.are_current(model)
    file.write_text("3", "utf-8")
    assert not reads.are_current(model)


def test_other_files_in_a_folder_that_is_named_do_not_count(tmp_path):
    model = reading(tmp_path)
    reads = CallableReads(model)
    (tmp_path / "notes.txt").write_text("3", "utf-8")
    assert reads.are_current(model)


def test_a_cache_that_is_named_does_not_count(tmp_path):
    cache = EmbeddingCache(tmp_path / "rows")
    extractor = TorchFeatureExtractor(nn.Identity(), cache=cache)
    extractor.transform([[1.0]])
    model = reading(tmp_path / "rows")
    reads = CallableReads(model)
    extractor.transform([[2.0]])
    assert reads.are_current(model)


def test_a_file_that_the_callable_writes_to_does_not_call_it_again(tmp_path):
    log = tmp_path / "calls"
    log.write_text("before\n")

    def noted():
        with log.open("a") as file:
            file.write("called\n")
        return nn.Identity()

    extractor = TorchFeatureExtractor(noted)
    for _ in range(3):
        extractor.transform([[1.0, 2.0]])
    assert log.read_text() == "before\ncalled\n"
    with log.open("a") as file:  # another process writes there, too
        file.write("called elsewhere\n")
    extractor.transform([[1.0, 2.0]])
    assert log.read_text().count("called\n") == 1


def test_a_function_that_torch_wraps_later_is_still_itself(monkeypatch):
    def seeded():
        torch.manual_seed(0)
        return nn.Linear(2, 1)

    bare = inspect.unwrap(torch.manual_seed)
    monkeypatch.setattr(torch, "manual_seed", bare)
    reads = CallableReads(seeded)
    monkeypatch.setattr(torch, "manual_seed", torch._disable_dynamo(bare))
    assert reads.are_current(seeded)  # as once torch's compiler is imported
