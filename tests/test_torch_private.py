"""Private names of torch do what the package needs of them, and are all in one file."""

import ast
from pathlib import Path

import pytest
import torch
from torch import nn

import sklearn_torch_bridge
from sklearn_torch_bridge import _torch_private
from sklearn_torch_bridge._replica import copy_module
from tests.replica.test_module_copy import shared

ABOUT_SCRIPT = pytest.mark.filterwarnings(
    # torch.jit is deprecated, and its users are still ours.
    "ignore:.*torch.jit"
)


class Remembering(nn.Module):
    """Assigns what it has seen, and counts in a buffer."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("count", torch.zeros(1))
        self.last = torch.zeros(1)

    def forward(self, x):
        self.count += 1
        self.last = x
        return self.norm(self.linear(x))


@ABOUT_SCRIPT
@pytest.mark.parametrize("inside", [False, True], ids=["alone", "inside a module"])
def test_a_scripted_module_is_copied_without_its_weights(inside):
    script = torch.jit.script(Remembering()).train()
    module = nn.Sequential(nn.Identity(), script) if inside else script
    before = {name: value.clone() for name, value in module.state_dict().items()}
    own = copy_module(module, shared).eval()
    x = torch.ones(3, 2)
    assert own(x).shape == (3, 2)
    ours = own[1] if inside else own
    assert ours.linear.weight.data_ptr() == script.linear.weight.data_ptr()
    assert torch.equal(ours.last, x)
    assert ours.count == 1
    assert torch.equal(script.last, torch.zeros(1))
    assert all(part.training for part in module.modules())
    assert not any(part.training for part in own.modules())
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


@ABOUT_SCRIPT
def test_weights_that_a_scripted_module_shares_are_copied_once():
    module = Remembering()
    script = torch.jit.script(module)
    made = []

    def copied(tensor):
        made.append(tensor)
        return tensor.clone()

    copy_module(nn.ModuleList([script, script.linear]), copied)
    assert len(made) == len({id(tensor) for tensor in made})


FILES = sorted(Path(sklearn_torch_bridge.__file__).parent.rglob("*.py"))


def private_names(tree):
    """Yield what a file names of torch that begins with an underscore."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            dotted = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            dotted = [ast.unparse(node)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            dotted = [node.value] if "\n" not in node.value else []
        else:
            continue
        for name in dotted:
            first, *parts = name.split(".")
            own = [part for part in parts if part[:1] == "_" and part[:2] != "__"]
            if first == "torch" and own:
                yield name


@pytest.mark.parametrize("path", FILES, ids=lambda path: "/".join(path.parts[-2:]))
def test_private_names_of_torch_are_in_one_file(path):
    found = list(private_names(ast.parse(path.read_text())))
    assert bool(found) is (path.name == "_torch_private.py"), found


def test_functions_run_outside_the_modes_of_the_caller():
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = []

    class Watching(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(function)
            return function(*args, **(kwargs or {}))

    counting = _torch_private.outside_modes(lambda x: x + _torch_private.count_modes())
    with Watching():
        assert _torch_private.count_modes() == 1
        assert counting(torch.zeros(1)).item() == 0
        ours = [one for one in seen if "add" in str(one)]
    assert ours == []
    assert counting(torch.zeros(1)).item() == 0


def test_tensors_of_transforms_are_recognised():
    found = []
    torch.func.vmap(lambda x: found.append(_torch_private.is_wrapped(x)) or x)(
        torch.ones(2)
    )
    functional = torch._to_functional_tensor(torch.ones(1))
    assert found == [True]
    assert _torch_private.is_functional(functional)
    assert not _torch_private.is_functional(torch.ones(1))
    assert not _torch_private.is_wrapped(torch.ones(1))


def test_a_tensor_without_memory_is_known():
    assert _torch_private.has_no_memory(torch._efficientzerotensor((2,)))
    assert not _torch_private.has_no_memory(torch.zeros(2))


@pytest.mark.filterwarnings("ignore:Sparse .* tensor support is in beta")
def test_the_parts_of_a_sparse_tensor_are_as_they_are():
    indices, parts = torch.tensor([[0, 0], [1, 1]]), torch.ones(2)
    tensor = torch.sparse_coo_tensor(indices, parts, (1, 2), check_invariants=True)
    assert _torch_private.sparse_values(tensor).tolist() == [1, 1]  # not summed
    assert torch.equal(_torch_private.sparse_indices(tensor), indices)


@pytest.mark.parametrize("requires_grad", [True, False])
def test_a_parameter_is_of_its_class(requires_grad):
    class Own(nn.Parameter):
        pass

    data = torch.ones(2)
    made = _torch_private.make_parameter(Own, data, requires_grad)
    assert type(made) is Own
    assert made.requires_grad is requires_grad
    assert made.data_ptr() == data.data_ptr()


def test_hooks_of_all_modules_are_known():
    assert not _torch_private.has_global_hooks()
    handles = [
        nn.modules.module.register_module_forward_pre_hook(print),
        nn.modules.module.register_module_forward_hook(repr),
    ]
    try:
        assert _torch_private.has_global_hooks()
        before, after = _torch_private.global_forward_hooks
        assert list(before.values()) == [print]
        assert list(after.values()) == [repr]
    finally:
        for handle in handles:
            handle.remove()


def test_a_compiled_module_leads_to_its_original():
    module = nn.Linear(2, 2)
    compiled = torch.compile(module, backend="eager")
    assert _torch_private.compiled_from(compiled) is module
    assert _torch_private.compiled_from(module) is None
    assert _torch_private.is_of_compiler(type(compiled))
    assert not _torch_private.is_of_compiler(nn.Linear)


def test_a_part_that_has_the_name_of_an_original_is_no_compiled_module():
    module = nn.Module()
    module._orig_mod = nn.Linear(2, 2)
    assert _torch_private.compiled_from(module) is None


@ABOUT_SCRIPT
def test_what_a_scripted_module_holds_can_be_read():
    script = torch.jit.script(Remembering())
    ((name, method),) = _torch_private.script_methods(script)
    assert name == "forward"
    assert "aten::add_" in str(method.inlined_graph)
    values = _torch_private.script_values(script, {"count", "linear", "missing"})
    assert list(values) == ["count"]


def test_nested_containers_are_walked():
    tree = {"a": [torch.ones(1), 2], "b": (torch.zeros(1),)}
    doubled = _torch_private.tree_map_tensors(lambda x: x + 1, tree)
    assert doubled["a"][0].item() == 2
    assert doubled["a"][1] == 2
    assert doubled["b"][0].item() == 1
    assert len(_torch_private.tree_leaves(tree)) == 3


def test_operators_are_of_the_types_that_are_named():
    types = _torch_private.OPERATOR_TYPES
    assert isinstance(torch.ops.aten.add, types)
    assert isinstance(torch.ops.aten.add.Tensor, types)


def test_the_errors_of_the_compiler_are_known():
    assert all(issubclass(kind, Exception) for kind in _torch_private.compiler_errors())
