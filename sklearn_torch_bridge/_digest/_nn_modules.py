"""How modules of torch are written: classes, weights, attributes, forward hooks.

Left out is what does not matter for a forward pass in eval mode: the training flag,
gradients, and hooks of backward passes and of state dicts.
"""

import re
from typing import Any

import torch
from torch import nn

from sklearn_torch_bridge._digest._encoder import Encoder, Writer
from sklearn_torch_bridge._digest._library_or_user_code import library_of
from sklearn_torch_bridge._digest._object_state import attributes_of
from sklearn_torch_bridge._torch_private import (
    compiled_from,
    global_forward_hooks,
    script_methods,
    script_type,
    script_values,
)

__all__ = ["MODULE_WRITERS", "write_operator"]

_NOT_WRITTEN = vars(nn.Module()).keys() | {
    *("_compiled_call_impl", "_is_hf_initialized", "_is_torch_compile")  # of no effect
}
_MODES = frozenset({"train", "eval"})
_OWN_OPERATORS = frozenset({"aten", "prim", "prims", "quantized"})
_LINE_NUMBERS = re.compile(r" # [^\n]*:\d+:\d+$", re.MULTILINE)
_MANGLED = re.compile(r"\.?___torch_mangle_\d+")  # counts what the process compiled


def _write_module(encoder: Encoder, module: nn.Module) -> None:
    """Write a module and all below it, in the order that its forward may see."""
    original = compiled_from(module)
    if original is not None:  # compiling changes only last bits
        if vars(module)["_forward_hooks"] or vars(module)["_forward_pre_hooks"]:
            encoder.put(b"compiled")
            _write_hooks(encoder, module)
            encoder.add(original)
        else:
            encoder.add_instead(module, original)
        return
    encoder.put(b"nnmodule", repr(_fixed_modes(module)).encode())
    _write_hooks(encoder, module)
    if isinstance(module, torch.jit.ScriptModule):
        _write_script(encoder, module)
        return
    cls = type(module)
    encoder.add_part(cls, "class", cls.__name__)
    attributes = attributes_of(module)
    written = {name: attributes[name] for name in attributes.keys() - _NOT_WRITTEN}
    encoder.add_named(written, "attribute")
    for role in ("parameter", "buffer", "submodule"):
        parts = vars(module)[f"_{role.removeprefix('sub')}s"].copy().items()
        encoder.put(b"registry", b"%d" % len(parts))
        for name, part in parts:
            encoder.add(name)
            encoder.add_part(part, role, name)


def _fixed_modes(module: nn.Module) -> list[bool]:
    """List the training flags, if the user's class may override `eval`."""
    for cls in type(module).__mro__:
        if _MODES & vars(cls).keys() and library_of(cls.__module__) is None:
            return [part.training for part in module.modules()]
    return []


def _write_hooks(encoder: Encoder, module: nn.Module) -> None:
    """Write the hooks that a call of the module runs, in their order."""
    own = vars(module)
    pre_hooks_of_all, hooks_of_all = global_forward_hooks
    for hooks, flags in (
        (pre_hooks_of_all, {}),
        (own["_forward_pre_hooks"], own["_forward_pre_hooks_with_kwargs"]),
        (own["_forward_hooks"], own["_forward_hooks_with_kwargs"]),
        (hooks_of_all, {}),
    ):
        if not hooks:  # as nearly always
            encoder.put(b"hooks", b"0")
            continue
        registered = hooks.copy().items()
        encoder.put(b"hooks", b"%d" % len(registered))
        for place, (key, hook) in enumerate(registered):
            encoder.add(key in flags)
            encoder.add_part(hook, "forward hook", place)


def _write_script(encoder: Encoder, module: torch.jit.ScriptModule) -> None:
    """Write what runs outside Python: graphs, and the attributes that they read."""
    read: set[str] = set()
    for name, method in script_methods(module):
        encoder.add(name)
        read |= _write_script_function(encoder, method)
    for path, part in module.named_modules():
        encoder.add(path)
        encoder.add_named(script_values(part, read), "attribute")


def _write_script_function(encoder: Encoder, function: Any) -> set[str]:
    """Write a scripted or traced function; return the attributes that it reads."""
    graph = function.inlined_graph
    text = _LINE_NUMBERS.sub("", _MANGLED.sub("", graph.str(False)))
    encoder.put(b"graph", text.encode("utf-8", "surrogatepass"))
    for node in graph.findAllNodes("prim::Constant"):  # the text abridges tensors
        encoder.add_part(node.output().toIValue(), "constant", "of a graph")
    return {node.s("name") for node in graph.findAllNodes("prim::GetAttr")}


def _write_script_object(encoder: Encoder, value: torch.ScriptObject) -> None:
    """Write an object of a TorchScript class, as of packed quantised weights."""
    encoder.put(b"scriptobject", str(script_type(value)).encode())
    try:
        state = value.__getstate__()
    except (AttributeError, RuntimeError) as error:
        encoder.refuse(value, "a TorchScript object without a state", error)
    else:
        encoder.add_part(state, "state of", "script object")


def write_operator(encoder: Encoder, operator: Any) -> None:
    """Write an operator of torch by its name; refuse others, of unknown code."""
    name = str(operator)
    if name.partition(".")[0] in _OWN_OPERATORS:
        encoder.put(b"operator", name.encode())
    else:
        encoder.refuse(operator, f"the custom operator {name!r}")


MODULE_WRITERS: dict[type, Writer] = {
    nn.Module: _write_module,
    torch.jit.ScriptFunction: _write_script_function,
    torch.ScriptObject: _write_script_object,
}
