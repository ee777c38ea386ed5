"""Every private name of torch that this package uses, and why.

Torch 2.13 has a public way for none of them, unless a comment says otherwise. The
compiler is imported inside functions, since it takes a second.
"""

import copy
import functools
import sys
import types
import warnings
from collections.abc import Callable
from operator import attrgetter
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn.modules import module as _base
from torch.nn.utils import parametrize
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

__all__ = [
    "OPERATOR_TYPES",
    "DispatchMode",
    "add_parametrized_class",
    "compile_graph",
    "compiled_from",
    "compiler_errors",
    "copy_script",
    "count_modes",
    "freezing",
    "global_forward_hooks",
    "has_global_hooks",
    "has_no_memory",
    "ignoring_subclass",
    "is_functional",
    "is_of_compiler",
    "is_wrapped",
    "leave_modes",
    "make_parameter",
    "mark_dynamic",
    "outside_modes",
    "overloads_of",
    "release_code",
    "schema_of",
    "script_methods",
    "script_type",
    "script_values",
    "sparse_indices",
    "sparse_values",
    "storage_key",
    "tree_leaves",
    "tree_map_tensors",
    "version_of",
]

_P = ParamSpec("_P")
_T = TypeVar("_T")

# Each of the first three answers in a fraction of a microsecond: how many dispatch
# modes (tracing, fake tensors) are active; whether a tensor belongs to a torch.func
# transform, or to a functionalized trace.
count_modes = torch._C._len_torch_dispatch_stack
is_wrapped = torch._C._functorch.is_functorch_wrapped_tensor
is_functional = torch._is_functional_tensor
# Whether all values of a tensor are zero and none of them is in memory.
has_no_memory = torch.Tensor._is_zerotensor
# The parts of a COO tensor as they are. The public methods want it coalesced, which
# torch does in the tensor's own dtype, and three times slower than SciPy.
sparse_values, sparse_indices = torch.Tensor._values, torch.Tensor._indices
# An instance of a subclass of Parameter, as ``Parameter.__new__`` makes it.
make_parameter = torch.Tensor._make_subclass
# Ignores ``__torch_function__`` inside a block; documented under this name.
ignoring_subclass = torch._C.DisableTorchFunctionSubclass
# The values in nested containers; and the containers with `function(tensor)` for each.
tree_leaves = _pytree.tree_leaves
tree_map_tensors = functools.partial(_pytree.tree_map_only, torch.Tensor)
# The TorchScript class of an object.
script_type = torch.ScriptObject._type
OPERATOR_TYPES = (torch._ops.OpOverload, torch._ops.OpOverloadPacket)
# Is shown each operation of its thread, and may run another in its place.
DispatchMode: Any = TorchDispatchMode
# How often the values of a tensor were changed in place, by it or a view of it.
version_of = attrgetter("_version")
# What identifies a storage while it lives; its address may be that of another one too.
storage_key = attrgetter("_cdata")
# What an operation is called, and takes.
schema_of: Callable[[Any], Any] = attrgetter("_schema")
# The hooks that run before and after the forward of every module; and whether any hook
# runs at each call of a module, as torch itself asks.
global_forward_hooks = _base._global_forward_pre_hooks, _base._global_forward_hooks
has_global_hooks: Callable[[], bool] = _base._has_any_global_hook


def overloads_of(operator: Any) -> list[Any]:
    """List the overloads of the operation that one belongs to."""
    packet = operator._overloadpacket
    return [getattr(packet, name) for name in packet.overloads()]


def outside_modes(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Run `function` unseen by the caller's dispatch modes."""

    @functools.wraps(function)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        # Asked first: entering and leaving costs more than a small conversion.
        if count_modes() == 0:
            return function(*args, **kwargs)
        with _disable_current_modes():
            return function(*args, **kwargs)

    return wrapped


def leave_modes(n_before: int) -> None:
    """Leave dispatch modes that an interrupt in torch's own code has left open."""
    while count_modes() > n_before:
        torch._C._pop_torch_dispatch_stack(None)
    if n_before == 0:
        torch._C._dispatch_tls_set_dispatch_key_included(
            torch._C.DispatchKey.Python, False
        )


def compiled_from(module: nn.Module) -> nn.Module | None:
    """Return the module that `torch.compile` made `module` of, if it did."""
    if "_orig_mod" in module._modules and any(map(is_of_compiler, type(module).mro())):
        return module._modules["_orig_mod"]
    return None


def add_parametrized_class(module: nn.Module, names: list[str]) -> None:
    """Give a module the class in which the tensors `names` are computed when read."""
    parametrize._inject_new_class(module)
    for name in names:
        parametrize._inject_property(module, name)


def is_of_compiler(cls: type) -> bool:
    """Check whether a class belongs to `torch.compile`."""
    return cls.__module__.startswith("torch._dynamo.")


# TorchScript, which torch 2.13 deprecates: its attributes live outside Python.


def copy_script(
    module: torch.jit.ScriptModule, copy_tensor: Callable[[torch.Tensor], torch.Tensor]
) -> nn.Module:
    """Copy a scripted module: flags and attributes anew, tensors by `copy_tensor`.

    What a forward assigns stays on the copy; `copy.copy` would share it. `copy_tensor`
    is called for each use of a tensor, registered or not. 3 ms for 55 modules.
    """
    torch_c: Any = torch._C
    if module not in _SCRIPT_NAMES:
        _SCRIPT_NAMES[module] = [_other_values(part) for part in _parts(module._c)]
    names_of_parts = iter(_SCRIPT_NAMES[module])

    def copied(native: Any) -> Any:
        own = copy.copy(native)
        for name in next(names_of_parts):
            own.setattr(name, tree_map_tensors(copy_tensor, native.getattr(name)))
        for registry in (torch_c.ParameterDict, torch_c.BufferDict):
            for name, tensor in registry(native).items():
                own.setattr(name, copy_tensor(tensor))
        for name, child in torch_c.ModuleDict(native).items():
            own.setattr(name, copied(child))
        return own

    wrap: Any = torch.jit._recursive.wrap_cpp_module
    result: nn.Module = wrap(copied(module._c))
    return result


# By scripted module: for each part, what it holds besides what it registers.
_SCRIPT_NAMES: WeakKeyDictionary[torch.jit.ScriptModule, list[list[str]]] = (
    WeakKeyDictionary()
)


def _parts(native: Any) -> list[Any]:
    torch_c: Any = torch._C
    children = [child for _, child in torch_c.ModuleDict(native).items()]
    return [native, *(part for child in children for part in _parts(child))]


def _other_values(native: Any) -> list[str]:
    """List what may hold tensors, of what the methods of one part read."""
    torch_c: Any = torch._C
    names = {
        node.s("name")
        for method in native._method_names()
        for node in native._get_method(method).graph.findAllNodes("prim::GetAttr")
        if native.hasattr(node.s("name"))
    }
    for registry in (torch_c.ParameterDict, torch_c.BufferDict, torch_c.ModuleDict):
        names -= {name for name, _ in registry(native).items()}
    plain = (bool, int, float, str)
    return [one for one in sorted(names) if not isinstance(native.getattr(one), plain)]


def script_methods(module: torch.jit.ScriptModule) -> list[tuple[str, Any]]:
    """List the methods of a scripted module by name, each with its graph."""
    native: Any = module._c
    return [(name, native._get_method(name)) for name in sorted(native._method_names())]


def script_values(part: nn.Module, names: set[str]) -> dict[str, Any]:
    """Return the attributes `names` of a scripted module, where it has them."""
    native: Any = part._c
    values = {name: native.getattr(name) for name in names if native.hasattr(name)}
    modules = torch._C.ScriptModule  # which have their own turn
    return {key: one for key, one in values.items() if not isinstance(one, modules)}


def mark_dynamic(tensor: torch.Tensor, axis: int) -> None:
    """Compile for any size along an axis; documented under this name."""
    torch._dynamo.maybe_mark_dynamic(tensor, axis)


def freezing(check_graph: Callable[[torch.fx.Graph], None]) -> Any:
    """Make weights constants of what a block compiles, each graph checked before."""
    from torch._inductor import config

    return config.patch(freezing=True, joint_custom_pre_pass=check_graph)


def compile_graph(
    graph: torch.fx.GraphModule, examples: list[Any]
) -> tuple[Callable[..., Any], list[types.ModuleType]]:
    """Compile as torch's own backend does; return the Python modules made as well."""
    with warnings.catch_warnings():  # torch 2.13 deprecates what it imports here
        warnings.simplefilter("ignore", DeprecationWarning)
        from torch._inductor.compile_fx import compile_fx
    from torch._inductor.codecache import PyCodeCache

    n_before = len(PyCodeCache.modules)
    code: Any = compile_fx(graph, examples)
    return code, PyCodeCache.modules[n_before:]


def release_code(forward: Callable[..., Any], loaded: list[types.ModuleType]) -> None:
    """Release what torch would keep for ever: compiled code, and weights in modules."""
    from torch._C._dynamo.eval_frame import reset_code

    reset_code(forward.__code__)
    if not loaded:
        return
    from torch._inductor.codecache import PyCodeCache

    for module in loaded:
        sys.modules.pop(module.__name__, None)
        if module in PyCodeCache.modules:
            PyCodeCache.modules.remove(module)


def compiler_errors() -> tuple[type[Exception], ...]:
    """Return all that `torch.compile` raises by itself."""
    from torch._dynamo import exc

    return exc.TorchDynamoException, exc.FailOnRecompileLimitHit
