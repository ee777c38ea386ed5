"""What a function would find outside of it now: the values, not their bytes."""

import os
import sys
import types
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.util import resolve_name
from typing import Any

from sklearn_torch_bridge._digest._bytecode import imports, references
from sklearn_torch_bridge._digest._environment import is_environment, variables_used
from sklearn_torch_bridge._digest._library_or_user_code import library_of
from sklearn_torch_bridge._digest._outside_values import outside

__all__ = ["found_by_function", "texts_in"]


def found_by_function(function: types.FunctionType) -> Iterator[Any]:
    """Yield what the code of a function finds outside of it, in the same order.

    >>> width = 3
    >>> list(found_by_function(lambda: width))
    [3]
    """
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    yield from vars(function).copy().values()
    look_up = outside(function)
    code, everywhere = function.__code__, function.__globals__
    yield from map(look_up, code.co_freevars)
    for name, attributes in references(code):
        value = everywhere.get(name)
        for attribute in attributes:
            if not isinstance(value, types.ModuleType):
                break
            value = getattr(value, attribute, None)
        if not is_environment(value):
            yield value
    for written, names in imports(code):
        yield from _imported(written, names, everywhere)
    variables = variables_used(code, look_up).read
    if None in variables:  # any of them
        yield dict(os.environ)
    for variable in sorted(name for name in variables if name is not None):
        yield os.environ.get(variable)


def _imported(
    written: str, names: tuple[str, ...], everywhere: Mapping[str, Any]
) -> Iterator[Any]:
    """Yield what an import inside a function has brought; nothing of libraries."""
    try:
        name = resolve_name(written, everywhere.get("__package__"))
    except ImportError:
        return
    if library_of(name) is None:
        module = sys.modules.get(name)
        for one in names:
            inner = sys.modules.get(f"{name}.{one}")
            yield getattr(module, one, inner)
        if not names:
            yield module


@lru_cache(maxsize=4096)
def texts_in(code: types.CodeType) -> tuple[str, ...]:
    """List the constants of a function, and of those inside it, that are texts."""
    found: list[str] = []
    left: list[Any] = [code]
    for one in left:  # it grows
        if isinstance(one, types.CodeType):
            left += one.co_consts
        elif isinstance(one, (tuple, frozenset)):
            left += one
        elif isinstance(one, str):
            found.append(one)
    return tuple(dict.fromkeys(found))
