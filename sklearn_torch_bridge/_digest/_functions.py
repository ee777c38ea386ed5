"""How functions, methods, classes and modules are written.

What a library keeps under its name is that name and the library's version. All else
is the user's code: its bytecode, with the values that it refers to.
"""

import functools
import importlib
import sys
import weakref
from abc import ABCMeta
from collections.abc import Mapping
from enum import EnumType
from importlib.util import resolve_name
from types import (
    BuiltinFunctionType,
    CellType,
    ClassMethodDescriptorType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any, Final

from sklearn_torch_bridge._digest._changes import changed_names
from sklearn_torch_bridge._digest._code import code_digest, imports, references
from sklearn_torch_bridge._digest._encoder import Encoder, Writer
from sklearn_torch_bridge._digest._library_code import (
    is_foreign,
    library_of,
    place_of,
)

__all__ = ["CODE_WRITERS", "write_class", "write_module_of_code", "wrote_place"]

_MISSING: Final = object()
_READ_ANYTHING = [eval, exec, globals, __import__]
_PLAIN_METACLASSES = (type, ABCMeta, EnumType)

# Of the body of a class: where it came from, what tools read, what Python adds.
_NOT_BEHAVIOUR = frozenset(
    {
        *("__module__", "__doc__", "__dict__", "__weakref__", "__abstractmethods__"),
        *("__annotations__", "__annotate__", "__annotate_func__", "__classcell__"),
        *("__annotations_cache__", "__conditional_annotations__", "__type_params__"),
        *("__firstlineno__", "__static_attributes__", "__orig_bases__", "_abc_impl"),
        *("__parameters__", "__classdict__", "__classdictcell__", "__slotnames__"),
        *("_autograd_function_id", "_backward_cls"),  # torch counts its functions
    }
)


def write_function(encoder: Encoder, function: FunctionType) -> None:
    """Write a function by its name in a library, or by its code and all it uses."""
    compiled = vars(function).get("_torchdynamo_orig_callable")
    if compiled is not None:  # made by torch.compile, which changes last bits
        encoder.add_instead(function, compiled)
        return
    home = library_of(function.__globals__.get("__name__"))
    if home is not None and wrote_place(encoder, function):
        return
    encoder.put(b"function", code_digest(function.__code__))
    encoder.add_part(function.__defaults__, "defaults of", function.__name__)
    encoder.add_named(function.__kwdefaults__ or {}, "default of")
    _write_closure(encoder, function)
    if home is None:
        encoder.add_named(vars(function), "attribute")
        _write_globals(encoder, function)
        _write_imports(encoder, function)
    else:  # made inside a library: its version stands for what else it uses
        encoder.add((home.name, home.version))


def _write_closure(encoder: Encoder, function: FunctionType) -> None:
    names = function.__code__.co_freevars
    changed = changed_names(function.__code__)
    for name, cell in zip(names, function.__closure__ or (), strict=True):
        if (name,) in changed:
            encoder.put(b"working state")
        else:
            _write_cell(encoder, cell, name)


def _write_cell(encoder: Encoder, cell: CellType, name: str = "") -> None:
    try:
        content = cell.cell_contents
    except ValueError:
        encoder.put(b"empty")
    else:
        encoder.add_part(content, "closure variable", name)


def _write_globals(encoder: Encoder, function: FunctionType) -> None:
    """Write the values behind the global names, through modules to what is meant."""
    changed = changed_names(function.__code__)
    for name, attributes in references(function.__code__):
        if (name,) in changed:
            encoder.put(b"working state", name.encode())
            continue
        value: Any = function.__globals__.get(name, _MISSING)
        if value is _MISSING:
            value = _builtin(function, name)
        steps = [name]
        for attribute in attributes:
            if not isinstance(value, ModuleType):
                break
            value = getattr(value, attribute, _MISSING)
            steps.append(attribute)
        path = ".".join(steps)
        encoder.add(path)
        _write_found(encoder, value, "global", path)


def _builtin(function: FunctionType, name: str) -> Any:
    plain: Any = function  # the type stubs do not know the attribute
    builtins = plain.__builtins__
    return (builtins if isinstance(builtins, dict) else vars(builtins)).get(
        name, _MISSING
    )


def _write_imports(encoder: Encoder, function: FunctionType) -> None:
    package = function.__globals__.get("__package__")
    for written, names in imports(function.__code__):
        encoder.add((written, names))
        try:
            module = resolve_name(written, package)
        except ImportError:
            encoder.put(b"missing")
            continue
        library = library_of(module)
        for name in names or [""]:
            if library is None:
                value = _imported(module, name)
            else:  # not imported for this; what the user replaced is there already
                value = getattr(sys.modules.get(module), name, None)
                value = value if is_foreign(value) else tuple(library)
            _write_found(encoder, value, "import", f"{module}.{name}".rstrip("."))


def _imported(module: str, name: str) -> Any:
    """Import as the function is about to, when it runs."""
    try:
        found = importlib.import_module(module)
        if not name:
            return importlib.import_module(module.partition(".")[0])
        if not hasattr(found, name):
            return importlib.import_module(f"{module}.{name}")
        return getattr(found, name)
    except ImportError:
        return _MISSING


def _write_found(encoder: Encoder, value: Any, role: str, path: str) -> None:
    if value is _MISSING:
        encoder.put(b"missing")
    else:
        encoder.add_part(value, role, path)


def write_class(encoder: Encoder, cls: type) -> None:
    """Write a class by its name in a library, or by its bases and its body."""
    body: Mapping[str, Any] = vars(cls).copy()
    if wrote_place(encoder, cls):
        if not _is_changeable(cls):
            return
        body = {  # what the user has put into it since
            name: value for name, value in body.items() if is_foreign(value)
        }
    else:
        encoder.put(b"class", cls.__qualname__.encode())
        if type(cls) not in _PLAIN_METACLASSES:
            encoder.add(type(cls))
    encoder.add(cls.__bases__)
    left_out = _NOT_BEHAVIOUR | _working_state(cls)
    kept = {name: body[name] for name in body if name not in left_out}
    encoder.add_named(kept, "attribute")


def _working_state(cls: type) -> frozenset[str]:
    """Give the attributes of a class that its own methods write to."""
    body = vars(cls).copy()
    methods = [part for part in body.values() if isinstance(part, FunctionType)]
    return frozenset(
        path[-1]
        for method in methods
        for path in changed_names(method.__code__)
        if path[:-1] == (cls.__name__,)
    )


def _is_changeable(cls: type) -> bool:
    """Tell classes that Python made from those that are compiled and fixed."""
    return bool(cls.__flags__ & 1 << 9)  # Py_TPFLAGS_HEAPTYPE


def write_module_of_code(encoder: Encoder, module: ModuleType) -> None:
    """Write a library by its name and version, the user's own by all that it holds."""
    library = library_of(module.__name__)
    if library is not None:
        encoder.put(b"librarymodule", f"{library}:{module.__name__}".encode())
        return
    encoder.put(b"module")
    held = {
        name: value
        for name, value in vars(module).copy().items()
        if not (name.startswith("__") and name.endswith("__"))
    }
    encoder.add_named(held, "global")


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
    if owner is None or isinstance(owner, ModuleType):
        encoder.refuse(function, "a compiled function")
        return
    encoder.put(b"builtin", function.__name__.encode())
    encoder.add_part(owner, "owner of method", function.__name__)


def _write_method(encoder: Encoder, method: MethodType) -> None:
    encoder.put(b"method")
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


def _write_property(encoder: Encoder, descriptor: property) -> None:
    encoder.put(b"property")
    encoder.add(descriptor.fget)
    encoder.add(descriptor.fset)


def _write_wrapped(encoder: Encoder, wrapper: Any) -> None:
    """Write class methods, static methods, and functions that remember results."""
    if not wrote_place(encoder, wrapper):
        encoder.put(b"wrapped", type(wrapper).__name__.encode())
        encoder.add(wrapper.__wrapped__)


def _write_cached_property(
    encoder: Encoder, descriptor: functools.cached_property[Any]
) -> None:
    encoder.put(b"cachedproperty")  # without its lock, which it has up to Python 3.11
    encoder.add(descriptor.func)


def _write_weak(encoder: Encoder, reference: weakref.ref[Any]) -> None:
    encoder.put(b"weak")
    encoder.add(reference())


def _write_proxy(encoder: Encoder, proxy: MappingProxyType[Any, Any]) -> None:
    encoder.put(b"proxy")
    encoder.add(dict(proxy))


def _write_code(encoder: Encoder, code: CodeType) -> None:
    encoder.put(b"code", code_digest(code))


CODE_WRITERS: dict[type, Writer] = {
    FunctionType: write_function,
    MethodType: _write_method,
    BuiltinFunctionType: _write_builtin,
    MethodWrapperType: _write_builtin,
    MethodDescriptorType: _write_descriptor,
    WrapperDescriptorType: _write_descriptor,
    ClassMethodDescriptorType: _write_descriptor,
    GetSetDescriptorType: _write_descriptor,
    MemberDescriptorType: _write_descriptor,
    functools.partial: _write_partial,
    functools.cached_property: _write_cached_property,
    functools._lru_cache_wrapper: _write_wrapped,  # noqa: SLF001 - the class has no other name
    classmethod: _write_wrapped,
    staticmethod: _write_wrapped,
    property: _write_property,
    weakref.ref: _write_weak,
    CellType: _write_cell,
    CodeType: _write_code,
    MappingProxyType: _write_proxy,
}
