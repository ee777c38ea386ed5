"""How functions, methods, classes and modules of code are written.

What a library has is written as its name and the library's version. All else is the
user's code: its bytecode, with the values that it refers to.
"""

import functools
import sys
import types
import weakref
from abc import ABCMeta
from collections.abc import Callable, Mapping
from enum import EnumType
from operator import attrgetter
from typing import Any

from torch import nn

from sklearn_torch_bridge._digest._bytecode import code_digest
from sklearn_torch_bridge._digest._encoder import Encoder, Writer
from sklearn_torch_bridge._digest._library_or_user_code import (
    is_user_code,
    library_of,
    place_of,
)
from sklearn_torch_bridge._digest._outside_values import (
    leave_out_of_class,
    refuse_carried_attributes,
    write_cell,
    write_inside_library,
    write_outside,
)

__all__ = [
    "CODE_WRITERS",
    "behaviour_of",
    "write_class",
    "write_module_of_code",
    "wrote_place",
]

_READ_ANYTHING = [eval, exec, globals, __import__]
_PLAIN_METACLASSES = (type, ABCMeta, EnumType)

# Of the body of a class: where it came from, what tools read, what Python adds.
_NOT_BEHAVIOUR = {
    *("__module__", "__doc__", "__dict__", "__weakref__", "__abstractmethods__"),
    *("__annotations__", "__annotate__", "__annotate_func__", "__classcell__"),
    *("__annotations_cache__", "__conditional_annotations__", "__type_params__"),
    *("__firstlineno__", "__static_attributes__", "__orig_bases__", "_abc_impl"),
    *("__parameters__", "__classdict__", "__classdictcell__", "__slotnames__"),
    *("_autograd_function_id", "_backward_cls"),  # torch counts its functions
}


def _write_function(encoder: Encoder, function: types.FunctionType) -> None:
    """Write a function by its name in a library, or by its code and all it uses."""
    compiled = vars(function).get("_torchdynamo_orig_callable")
    if compiled is not None:  # made by torch.compile, which changes only last bits
        encoder.add_instead(function, compiled)
        return
    home = library_of(function.__globals__.get("__name__"))
    if home is not None and wrote_place(encoder, function):
        return
    encoder.put(b"function", code_digest(function.__code__))
    if home is None:
        write_outside(encoder, function)
    else:  # made inside a library, whose version stands for what else it uses
        write_inside_library(encoder, function)
        encoder.add((home.name, home.version))


def write_class(encoder: Encoder, cls: type) -> None:
    """Write a class by its name in a library, or by its bases and its body."""
    body: Mapping[str, Any] = vars(cls).copy()
    if wrote_place(encoder, cls):
        if not cls.__flags__ & 1 << 9:  # Py_TPFLAGS_HEAPTYPE: else it cannot change
            return
        # What the user has put into it since; most is of the module of the class.
        own = getattr(sys.modules.get(cls.__module__), "__dict__", None)
        others = (
            (name, value)
            for name, value in body.items()
            if getattr(value, "__globals__", None) is not own
        )
        body = {name: value for name, value in others if is_user_code(value)}
    else:
        encoder.put(b"class", cls.__qualname__.encode())
        if type(cls) not in _PLAIN_METACLASSES:
            encoder.add(type(cls))
    encoder.add(cls.__bases__)
    if issubclass(cls, nn.Module) and "__init__" in body:
        # It has run: what it made is among the attributes.
        encoder.add_last(body["__init__"], "attribute", "__init__")
        body = {name: value for name, value in body.items() if name != "__init__"}
    leave_out_of_class(encoder, cls)
    kept = {name: body[name] for name in body.keys() - _NOT_BEHAVIOUR}
    encoder.add_named(encoder.working.counted(cls, kept), "attribute")


def behaviour_of(cls: type) -> dict[str, Any]:
    """Return the body of a class without notes, and without what Python adds."""
    body = vars(cls).copy()
    return {name: body[name] for name in body if name not in _NOT_BEHAVIOUR}


def write_module_of_code(encoder: Encoder, module: types.ModuleType) -> None:
    """Write a library by its name and version, the user's own by all that it holds."""
    library = library_of(module.__name__)
    if library is not None:
        encoder.put(b"librarymodule", f"{library}:{module.__name__}".encode())
        return
    encoder.put(b"module")
    held = vars(module).copy()
    own = [name for name in held if not (name[:2] == name[-2:] == "__")]
    encoder.add_named({name: held[name] for name in own}, "global")


def wrote_place(encoder: Encoder, value: Any) -> bool:
    """Write the library and the name under which it keeps `value`, if it does."""
    place = place_of(value)
    if place is None:
        return False
    (name, version), path = place
    encoder.put(b"library", f"{name}={version}:{path}".encode())
    return True


def _write_builtin(encoder: Encoder, function: Any) -> None:
    if function in _READ_ANYTHING:
        encoder.refuse(function, "a way to read what no code names")
        return
    if wrote_place(encoder, function):
        return
    owner = function.__self__
    if owner is None or isinstance(owner, types.ModuleType):
        encoder.refuse(function, "a compiled function")
    else:
        encoder.put(b"builtin", function.__name__.encode())
        encoder.add_part(owner, "owner of method", function.__name__)


def _write_method(encoder: Encoder, method: types.MethodType) -> None:
    encoder.put(b"method")
    refuse_carried_attributes(encoder, method.__self__, method.__func__.__name__)
    encoder.add_part(method.__func__, "function of method", method.__func__.__name__)
    encoder.add_part(method.__self__, "owner of method", method.__func__.__name__)


def _write_descriptor(encoder: Encoder, descriptor: Any) -> None:
    encoder.put(b"descriptor", descriptor.__name__.encode())
    encoder.add(descriptor.__objclass__)


def _write_partial(encoder: Encoder, partial: functools.partial[Any]) -> None:
    encoder.put(b"partial", b"%d" % len(partial.args))
    encoder.add_part(partial.func, "function of", "partial")
    for place, argument in enumerate(partial.args):
        encoder.add_part(argument, "argument", place)
    encoder.add_named(partial.keywords, "argument")
    encoder.add_named(vars(partial), "attribute")


def _write_wrapped(encoder: Encoder, wrapper: Any) -> None:
    """Write class methods, static methods, and functions that remember results."""
    if not wrote_place(encoder, wrapper):
        encoder.put(b"wrapped", type(wrapper).__name__.encode())
        encoder.add(wrapper.__wrapped__)


def _with_parts(kind: bytes, *parts: Callable[[Any], Any]) -> Writer:
    """Make a writer of a kind and of what each of `parts` returns for a value."""

    def write(encoder: Encoder, value: Any) -> None:
        encoder.put(kind)
        for part in parts:
            encoder.add(part(value))

    return write


CODE_WRITERS: dict[type, Writer] = {
    types.FunctionType: _write_function,
    types.MethodType: _write_method,
    types.BuiltinFunctionType: _write_builtin,
    types.MethodWrapperType: _write_builtin,
    types.MethodDescriptorType: _write_descriptor,
    types.WrapperDescriptorType: _write_descriptor,
    types.ClassMethodDescriptorType: _write_descriptor,
    types.GetSetDescriptorType: _write_descriptor,
    types.MemberDescriptorType: _write_descriptor,
    functools.partial: _write_partial,
    # Without its lock, which it has up to Python 3.11.
    functools.cached_property: _with_parts(b"cachedproperty", attrgetter("func")),
    functools._lru_cache_wrapper: _write_wrapped,  # noqa: SLF001 - the class has no other name
    classmethod: _write_wrapped,
    staticmethod: _write_wrapped,
    property: _with_parts(b"property", attrgetter("fget"), attrgetter("fset")),
    weakref.ref: _with_parts(b"weak", lambda reference: reference()),
    types.CellType: write_cell,
    types.CodeType: lambda encoder, code: encoder.put(b"code", code_digest(code)),
    types.MappingProxyType: _with_parts(b"proxy", dict),
}
