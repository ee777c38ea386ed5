"""Modules that each have something a copy could lose, and how to check that none is."""

from itertools import combinations

import torch
from hypothesis import strategies as st
from torch import nn

from tests.tiny_models import Stateful, cnn, mlp


class Scale(nn.Parameter):
    """A parameter of a class of its own."""


def hook(*_):
    """Do nothing."""


def tied():
    module = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5), nn.Linear(4, 5))
    module[1].weight = module[2].weight = module[0].weight
    return module


def views():
    flat = torch.arange(40.0)
    module = nn.Module()
    module.whole = nn.Parameter(flat)
    module.part = nn.Parameter(flat[4:16].view(3, 4))
    module.turned = nn.Parameter(flat[10:30].view(4, 5).t())
    module.register_buffer("overlapping", flat.as_strided((3, 4), (2, 1), 20))
    module.register_buffer("expanded", flat[:1].expand(6))
    module.register_buffer("bits", flat[30:32].view(torch.int16))
    return module


def dtypes():
    module = nn.Module()
    kinds = [
        *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint16),
        *(torch.complex64, torch.complex128),
        *(torch.float8_e4m3fn, torch.float8_e5m2),
    ]
    for kind in kinds:
        values = torch.tensor([0, 1, 1, 0, 1]).to(kind)
        module.register_buffer(f"of_{kind}".replace("torch.", ""), values)
    module.weight = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    return module


def odd_shapes():
    module = nn.Module()
    module.scalar = nn.Parameter(torch.tensor(2.5))
    module.empty = nn.Parameter(torch.zeros(0, 4))
    module.register_parameter("nothing", None)
    module.register_buffer("no_buffer", None)
    module.register_buffer("passing", torch.ones(2), persistent=False)
    module.register_buffer("fortran", torch.ones(3, 4).t().contiguous().t())
    return module


def flags():
    module = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2)).train()
    module[0].eval()
    module[2].bias.requires_grad_(False)
    module[2].weight = Scale(torch.ones(2, 4))
    module[2].weight.note = "kept"
    module[2].register_forward_hook(hook)
    return module


MODULES = {
    "mlp": mlp,
    "cnn": cnn,
    "stateful": Stateful,
    "tied": tied,
    "views": views,
    "dtypes": dtypes,
    "odd shapes": odd_shapes,
    "flags": flags,
    "lstm": lambda: nn.LSTM(3, 4, 2, bidirectional=True),
    "no tensors": nn.Identity,
    "large": lambda: nn.Sequential(nn.Linear(600, 600), nn.Linear(600, 3)),
}


def named(module):
    """List all tensors of a module, those that are there twice too."""
    return [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
        *((k, v) for k, v in vars(module).items() if isinstance(v, torch.Tensor)),
    ]


def as_bytes(tensor):
    flat = torch.empty(tensor.numel(), dtype=tensor.dtype)
    flat.copy_(tensor.detach().flatten())
    return bytes(flat.view(torch.uint8).numpy()) if len(flat) else b""


def facts(tensor):
    """Return all of a tensor but where it is."""
    kind = (type(tensor), tensor.dtype, tensor.shape, tensor.stride())
    return kind, tensor.requires_grad, vars(tensor), as_bytes(tensor)


def addresses(module):
    return {tensor.data_ptr() for _, tensor in named(module) if tensor.numel()}


def common_memory(tensors):
    """Return which are one object, and how far apart others are in memory."""
    spans = [(tensor, tensor.data_ptr(), n_bytes(tensor)) for tensor in tensors]
    return [
        (
            one is other,
            start - begin if start < begin + n and begin < start + m else None,
        )
        for (one, start, m), (other, begin, n) in combinations(spans, 2)
    ]


def n_bytes(tensor):
    """Count the bytes from the first to the last value."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    n_items = 1 + sum((size - 1) * stride for size, stride in steps)
    return n_items * tensor.element_size() if tensor.numel() else 0


def assert_same(found, module):
    """Compare two modules in all, and check that they share nothing."""
    assert repr(found) == repr(module)
    expected, ours = dict(named(module)), dict(named(found))
    assert list(ours) == list(expected)
    for name, tensor in expected.items():
        assert facts(ours[name]) == facts(tensor), name
    assert common_memory(ours.values()) == common_memory(expected.values())
    theirs = {id(part) for part in module.modules()} | addresses(module)
    assert not theirs & ({id(part) for part in found.modules()} | addresses(found))
    for part, original in zip(found.modules(), module.modules(), strict=True):
        assert type(part) is type(original)
        assert part.training == original.training
        assert part._non_persistent_buffers_set == original._non_persistent_buffers_set
        for registry in ("_parameters", "_buffers"):
            assert [*getattr(part, registry)] == [*getattr(original, registry)]
        hooks = [*original._forward_hooks.values()]
        assert [*part._forward_hooks.values()] == hooks


GENERATED_DTYPES = [
    *(torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16),
    *(torch.float32, torch.float64, torch.float8_e4m3fn, torch.complex128),
]


@st.composite
def modules(draw, dtypes=GENERATED_DTYPES):
    """Draw a module whose tensors are views of a few storages, tied and strided."""
    module = nn.Module()
    storages = [
        torch.arange(size, dtype=torch.uint8) % 2
        for size in draw(st.lists(st.sampled_from([16, 256, 3_200]), max_size=3))
    ]
    for number in range(draw(st.integers(0, 6)) if storages else 0):
        dtype = draw(st.sampled_from(dtypes))
        flat = draw(st.sampled_from(storages)).view(dtype)
        shape = draw(st.lists(st.integers(0, 3), max_size=3))
        steps = draw(st.lists(st.integers(0, 5), min_size=3, max_size=3))[: len(shape)]
        needed = 1 + sum(max(n - 1, 0) * s for n, s in zip(shape, steps, strict=True))
        if needed > len(flat):
            shape, steps, needed = [], [], 1
        view = flat.as_strided(shape, steps, draw(st.integers(0, len(flat) - needed)))
        kind = draw(st.sampled_from(["parameter", "buffer", "passing", "attribute"]))
        if kind == "parameter":
            setattr(module, f"x{number}", nn.Parameter(view, requires_grad=False))
        elif kind == "attribute":
            setattr(module, f"x{number}", view)
        else:
            module.register_buffer(f"x{number}", view, persistent=kind == "buffer")
        if draw(st.booleans()):
            setattr(module, f"tied{number}", getattr(module, f"x{number}"))
    module.train(draw(st.booleans()))
    return module
