"""How modules are written: their classes, weights, attributes and forward hooks.

Left out is what says nothing about a forward pass in eval mode: the training flag,
gradients, and hooks of backward passes and of state dicts.
"""

import re
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as _torch_module

from sklearn_torch_bridge._digest._encoder import Encoder
from sklearn_torch_bridge._digest._library_code import library_of
from sklearn_torch_bridge._digest._objects import attributes_of

__all__ = [
    "write_module",
    "write_operator",
    "write_script_function",
    "write_script_object",
]

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_OF_NO_EFFECT = frozenset(
    {"_compiled_call_impl", "_is_hf_initialized", "_is_torch_compile"}
)
_MODES = ("train", "eval")
_OWN_OPERATORS = frozenset({"aten", "prim", "prims", "quantized"})
_LINE_NUMBERS = re.compile(r" # [^\n]*:\d+:\d+$", re.MULTILINE)
_MANGLED = re.compile(r"\.?___torch_mangle_\d+")  # counts what the process compiled


def write_module(encoder: Encoder, module: nn.Module) -> None:
    """Write a module and all below it, in the order that its forward may see."""
    if type(module).__module__ == "torch._dynamo.eval_frame":
        _write_compiled(encoder, module)
        return
    encoder.put(b"nnmodule", repr(_fixed_modes(module)).encode())
    _write_hooks(encoder, module)
    if isinstance(module, torch.jit.ScriptModule):
        _write_script(encoder, module)
        return
    cls = type(module)
    encoder.add_part(cls, "class", cls.__name__)
    encoder.add_named(_attributes(module), "attribute")
    _write_registry(encoder, module, "_parameters", "parameter")
    _write_registry(encoder, module, "_buffers", "buffer")
    _write_registry(encoder, module, "_modules", "submodule")


def _write_compiled(encoder: Encoder, module: nn.Module) -> None:
    """Write what was compiled, which changes last bits, and hooks around that."""
    original = module._orig_mod  # noqa: SLF001 - torch has no public way
    if not module._forward_hooks and not module._forward_pre_hooks:  # noqa: SLF001 - no public way
        encoder.add_instead(module, original)
        return
    encoder.put(b"compiled")
    _write_hooks(encoder, module)
    encoder.add(original)


def _attributes(module: nn.Module) -> dict[str, Any]:
    return {
        name: value
        for name, value in attributes_of(module).items()
        if name not in _OF_EVERY_MODULE and name not in _OF_NO_EFFECT
    }


def _fixed_modes(module: nn.Module) -> list[bool]:
    """List the training flags, where the user's class may keep `eval` from them."""
    for cls in type(module).__mro__:
        own = any(name in vars(cls) for name in _MODES)
        if own and library_of(cls.__module__) is None:
            return [part.training for part in module.modules()]
    return []


def _write_registry(
    encoder: Encoder, module: nn.Module, registry: str, role: str
) -> None:
    parts = vars(module)[registry].copy().items()
    encoder.put(b"registry", b"%d" % len(parts))
    for name, part in parts:
        encoder.add(name)
        encoder.add_part(part, role, name)


def _write_hooks(encoder: Encoder, module: nn.Module) -> None:
    """Write the hooks that a call of the module runs, in their order."""
    own = vars(module)
    everywhere = vars(_torch_module)
    for hooks, flags in (
        (everywhere["_global_forward_pre_hooks"], {}),
        (own["_forward_pre_hooks"], own["_forward_pre_hooks_with_kwargs"]),
        (own["_forward_hooks"], own["_forward_hooks_with_kwargs"]),
        (everywhere["_global_forward_hooks"], {}),
    ):
        registered = hooks.copy().items()
        encoder.put(b"hooks", b"%d" % len(registered))
        for place, (key, hook) in enumerate(registered):
            encoder.add(key in flags)
            encoder.add_part(hook, "forward hook", place)


def _write_script(encoder: Encoder, module: torch.jit.ScriptModule) -> None:
    """Write what runs outside Python: graphs, and the attributes that they ask for."""
    core: Any = module._c  # noqa: SLF001 - torch has no public way, here and below
    asked: set[str] = set()
    for name in sorted(core._method_names()):  # noqa: SLF001 - no public way
        encoder.add(name)
        asked |= _write_graph(encoder, core._get_method(name))  # noqa: SLF001 - no public way
    for path, part in module.named_modules():
        own: Any = part._c  # noqa: SLF001 - no public way
        values = {name: own.getattr(name) for name in asked if own.hasattr(name)}
        encoder.add(path)
        encoder.add_named(
            {
                name: value
                for name, value in values.items()
                if not isinstance(value, torch._C.ScriptModule)  # noqa: SLF001 - no public way
            },
            "attribute",
        )


def write_script_function(encoder: Encoder, function: Any) -> None:
    """Write a scripted or traced function."""
    _write_graph(encoder, function)


def _write_graph(encoder: Encoder, method: Any) -> set[str]:
    """Write a graph with its constants; give the attributes that it asks for."""
    graph = method.inlined_graph
    text = _LINE_NUMBERS.sub("", _MANGLED.sub("", graph.str(False)))
    encoder.put(b"graph", text.encode("utf-8", "surrogatepass"))
    for node in graph.findAllNodes("prim::Constant"):  # the text abridges tensors
        encoder.add_part(node.output().toIValue(), "constant", "of a graph")
    return {node.s("name") for node in graph.findAllNodes("prim::GetAttr")}


def write_script_object(encoder: Encoder, value: torch.ScriptObject) -> None:
    """Write an object of a TorchScript class, as of packed quantised weights."""
    encoder.put(b"scriptobject", str(value._type()).encode())  # noqa: SLF001 - no public way
    try:
        state = value.__getstate__()
    except (AttributeError, RuntimeError) as error:
        encoder.refuse(value, "a TorchScript object without a state", error)
    else:
        encoder.add_part(state, "state of", "script object")


def write_operator(encoder: Encoder, operator: Any) -> None:
    """Write an operator of torch by its name; others are registered who knows where."""
    name = str(operator)
    if name.partition(".")[0] in _OWN_OPERATORS:
        encoder.put(b"operator", name.encode())
    else:
        encoder.refuse(operator, f"the custom operator {name!r}")
