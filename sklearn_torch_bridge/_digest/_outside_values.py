"""How the values are written that a function refers to outside itself.

What it only writes to is its working state, which does not count; what it writes to and
reads again is refused, unless a library does so.
"""

import importlib
import os
import sys
import types
from collections.abc import Callable
from importlib.util import resolve_name
from typing import Any, Final

from torch import nn

from sklearn_torch_bridge._digest._bytecode import imports, references
from sklearn_torch_bridge._digest._encoder import Encoder
from sklearn_torch_bridge._digest._environment import is_environment, variables_used
from sklearn_torch_bridge._digest._flow import flow_of
from sklearn_torch_bridge._digest._library_or_user_code import (
    is_installed,
    is_user_code,
    library_of,
)
from sklearn_torch_bridge._digest._reads_and_writes import Path
from sklearn_torch_bridge._digest._side_effects import (
    Use,
    carried_attributes,
    class_attributes_written,
    use_of,
    written_attributes,
)
from sklearn_torch_bridge._digest._without_effect import is_log

__all__ = [
    "leave_out_of_class",
    "outside",
    "refuse_carried_attributes",
    "write_cell",
    "write_inside_library",
    "write_outside",
]

_MISSING: Final = object()
_CODE = (type, types.ModuleType, types.FunctionType, types.MethodType)
_NOT_NAMED = "read as a whole, or by a name that is not constant"
_UseOf = Callable[[Path, Any], Use]


def write_outside(encoder: Encoder, function: types.FunctionType) -> None:
    """Write all that the user's function refers to."""
    _leave_out_working_state(encoder, function)
    uses = _uses_of(function)
    variables = variables_used(function.__code__, outside(function))
    are_named = None not in variables.read
    if variables.read:
        names = sorted(name for name in variables.read if name is not None)
        encoder.put(b"variables")
        for name in names:
            if name in variables.written:
                encoder.refuse_carried(os.environ, "variable of the environment", name)
            else:
                encoder.add((name, os.environ.get(name)))
    _write_defaults(encoder, function, uses)
    _write_closure(encoder, function, uses, are_named=are_named)
    attributes = encoder.working.counted(function, vars(function))
    encoder.add_named(attributes, "attribute")
    _write_globals(encoder, function, uses, are_named=are_named)
    if not are_named:
        encoder.refuse_part(os.environ, "global", "os.environ", _NOT_NAMED)
    _write_imports(encoder, function)


def write_inside_library(encoder: Encoder, function: types.FunctionType) -> None:
    """Write what a function that a library made holds of its own."""
    uses = _uses_of(function)
    _write_defaults(encoder, function, uses)
    _write_closure(encoder, function, uses, are_named=False)


def _uses_of(function: types.FunctionType) -> _UseOf:
    """Return what says what a function does with the value of a path of names."""
    flow = flow_of(function.__code__)
    is_of_library = is_installed(function.__globals__.get("__name__"))

    def use(path: Path, value: Any) -> Use:
        found = use_of(flow, path, value)
        if is_log(value) and flow.is_read(path):  # its position, say
            return Use.CARRIED
        return Use.WORKING if is_of_library and found is Use.CARRIED else found

    return use


def outside(function: types.FunctionType) -> Callable[[str], Any]:
    """Return what looks up a closure variable or a global of a function."""
    everywhere = function.__globals__
    if not function.__closure__:
        return everywhere.get
    names, cells = function.__code__.co_freevars, function.__closure__
    closed = dict(zip(names, map(_content, cells), strict=True))
    return lambda name: closed[name] if name in closed else everywhere.get(name)


def _leave_out_working_state(encoder: Encoder, function: types.FunctionType) -> None:
    """Leave out attributes that a function only writes to; refuse what it reads too."""
    encoder.working.add_code(function)
    look_up = outside(function)
    if is_installed(function.__globals__.get("__name__")):
        return
    for owner, name, use in written_attributes(function.__code__, look_up):
        _leave_out(encoder, owner, name, use)
    for path in sorted(flow_of(function.__code__).loaded):
        if len(path) > 1:
            refuse_carried_attributes(encoder, look_up(path[0]), path[1])


def leave_out_of_class(encoder: Encoder, cls: type) -> None:
    """Leave out what the methods of a class write to it, by its name or their own."""
    if is_installed(cls.__module__):
        return
    for name, use in class_attributes_written(cls).items():
        _leave_out(encoder, cls, name, use)
    parts = {name: _inner(part) for name, part in vars(cls).copy().items()}
    for called, method in parts.items():
        if type(method) is types.FunctionType:
            encoder.working.add_method(method, called)
            look_up = outside(method)
            for owner, name, use in written_attributes(method.__code__, look_up):
                if owner is cls:
                    _leave_out(encoder, cls, name, use)


def _inner(part: Any) -> Any:
    """Return the function of a property, a static or a class method."""
    return getattr(part, "__func__", part.fget if isinstance(part, property) else part)


def _leave_out(encoder: Encoder, owner: Any, name: str, use: Use) -> None:
    value = getattr(owner, name, None)
    if use is Use.CARRIED:
        encoder.refuse_carried(value, "attribute", name)
        encoder.working.leave_out_for_good(owner, name)
    else:
        encoder.working.leave_out(owner, name, value)


def refuse_carried_attributes(encoder: Encoder, owner: Any, method: str) -> None:
    """Refuse attributes of the user's object that a method both reads and writes."""
    if isinstance(owner, (*_CODE, nn.Module)) or not is_user_code(owner):
        return
    for name in carried_attributes(owner, method):
        _leave_out(encoder, owner, name, Use.CARRIED)


def _write_defaults(
    encoder: Encoder, function: types.FunctionType, use_of_path: _UseOf
) -> None:
    code, values = function.__code__, function.__defaults__ or ()
    names = code.co_varnames[code.co_argcount - len(values) : code.co_argcount]
    named = dict(zip(names, values, strict=True)) | (function.__kwdefaults__ or {})
    encoder.put(b"defaults", b"%d" % len(named))
    for name, value in named.items():
        encoder.add(name)
        _write_used(encoder, value, use_of_path((name,), value), "default of", name)


def _write_closure(
    encoder: Encoder,
    function: types.FunctionType,
    use_of_path: _UseOf,
    *,
    are_named: bool,
) -> None:
    names = function.__code__.co_freevars
    for name, cell in zip(names, function.__closure__ or (), strict=True):
        value = _content(cell)
        if are_named and is_environment(value):
            encoder.put(b"environment")
        elif value is _MISSING:
            encoder.put(b"empty")
        else:
            use = use_of_path((name,), value)
            _write_used(encoder, value, use, "closure variable", name)


def _write_globals(
    encoder: Encoder, function: Any, use_of_path: _UseOf, *, are_named: bool
) -> None:
    """Write the values of global names: of ``np.linalg.norm`` that of ``norm``."""
    for name, attributes in references(function.__code__):
        builtin = function.__builtins__.get(name, _MISSING)  # not in type stubs
        value = function.__globals__.get(name, builtin)
        path: Path = (name,)
        use = use_of_path(path, value)
        for attribute in attributes:
            if use is not Use.READ or not isinstance(value, types.ModuleType):
                break
            value, path = getattr(value, attribute, _MISSING), (*path, attribute)
            use = use_of_path(path, value)
        encoder.add(".".join(path))
        if not (are_named and is_environment(value)):
            _write_used(encoder, value, use, "global", ".".join(path))


def _write_used(
    encoder: Encoder, value: Any, use: Use, role: str, name: object
) -> None:
    """Write a value outside a function, unless that only writes to it."""
    if use is Use.CARRIED:
        encoder.refuse_carried(value, role, name)
    elif use is Use.WORKING:
        encoder.put(b"workingstate")
        if not isinstance(value, _CODE) and is_user_code(value):  # its methods run
            encoder.add_part(type(value), "class", type(value).__name__)
    elif value is _MISSING:
        encoder.put(b"missing")
    else:
        encoder.add_part(value, role, name)


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _MISSING


def write_cell(encoder: Encoder, cell: types.CellType) -> None:
    """Write what a closure variable refers to."""
    _write_used(encoder, _content(cell), Use.READ, "closure variable", "")


def _write_imports(encoder: Encoder, function: types.FunctionType) -> None:
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
            else:  # not imported here; what the user replaced is there already
                value = getattr(sys.modules.get(module), name, None)
                value = value if is_user_code(value) else tuple(library)
            path = f"{module}.{name}".rstrip(".")
            _write_used(encoder, value, Use.READ, "import", path)


def _imported(module: str, name: str) -> Any:
    """Import what the function will import when it runs."""
    try:
        found = importlib.import_module(module)
        if not name:
            return importlib.import_module(module.partition(".")[0])
        if not hasattr(found, name):
            return importlib.import_module(f"{module}.{name}")
        return getattr(found, name)
    except ImportError:
        return _MISSING
