"""Names of layers: which ones `layer` stands for, with globs and numbered calls."""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

__all__ = ["calls_by_module", "check_layers", "literal_names"]

_WILDCARDS = frozenset("*?[")


def check_layers(
    module: nn.Module, layer: str | Iterable[Any] | None
) -> tuple[str, ...]:
    """Return the names that `layer` stands for, each once, in the order given.

    A name is that of a submodule, with ``:k`` behind it for its k-th call (from 0).
    A glob gives the names in the order of ``named_modules()``: ``*`` and ``?`` stay
    within one part of a name, ``**`` crosses the dots.
    """
    if layer is None:
        return ()
    is_single = isinstance(layer, str) or not isinstance(layer, Iterable)
    names = [name for name, _ in module.named_modules() if name]
    aliases = {name for name, _ in module.named_modules(remove_duplicate=False)}
    found: dict[str, None] = {}
    for pattern in [layer] if is_single else layer:
        if not isinstance(pattern, str):
            msg = (
                "`layer` must be the name of a submodule, a list of names, or None, "
                f"got {pattern!r}."
            )
            raise TypeError(msg)
        matches = _matches(pattern, names, aliases)
        if not matches:
            raise ValueError(_unknown_layer(pattern, names))
        found.update(dict.fromkeys(matches))
    if not found:
        msg = "`layer` must name at least one submodule, got an empty list."
        raise ValueError(msg)
    return tuple(found)


def literal_names(layer: str | Iterable[Any] | None) -> tuple[str, ...]:
    """Return the names of `layer` if none of them is a glob, each once; else nothing.

    >>> literal_names("encoder.0"), literal_names(["a", "b*"])
    (('encoder.0',), ())
    """
    names = [layer] if isinstance(layer, str) else list(layer or ())
    if all(isinstance(name, str) and not _WILDCARDS & set(name) for name in names):
        return tuple(dict.fromkeys(names))
    return ()


def calls_by_module(
    module: nn.Module, layers: Sequence[str]
) -> dict[str, dict[int, list[str]]]:
    """Group layers by the submodule to hook, then by the number of its call."""
    aliases = {name for name, _ in module.named_modules(remove_duplicate=False)}
    grouped: dict[str, dict[int, list[str]]] = {}
    for layer in layers:
        name, call = (layer, 0) if layer in aliases else _split_call(layer)
        grouped.setdefault(name, {}).setdefault(call, []).append(layer)
    return grouped


def _split_call(layer: str) -> tuple[str, int]:
    """Split a name into that of the submodule and the number of its call.

    >>> _split_call("encoder.layer.2:1"), _split_call("encoder")
    (('encoder.layer.2', 1), ('encoder', 0))
    """
    name, colon, call = layer.rpartition(":")
    return (name, int(call)) if colon and call.isdecimal() else (layer, 0)


def _matches(pattern: str, names: list[str], aliases: set[str]) -> list[str]:
    if pattern in aliases or _split_call(pattern)[0] in aliases:
        return [pattern]
    expression = re.compile(_to_regex(pattern))
    return [name for name in names if expression.fullmatch(name)]


def _to_regex(pattern: str) -> str:
    """Convert a glob over dotted names, where ``**.`` may also stand for nothing."""
    translated = {"**.": r"(?:.*\.)?", "**": ".*", "*": "[^.]*", "?": "[^.]"}

    def translate(part: str) -> str:
        as_it_is = part.replace("[!", "[^", 1) if part[:1] == "[" else re.escape(part)
        return translated.get(part, as_it_is)

    parts = re.split(r"(\*\*\.|\*\*|\*|\?|\[[^\]]+\])", pattern)
    return "".join(map(translate, parts))


def _unknown_layer(pattern: str, names: list[str]) -> str:
    close = difflib.get_close_matches(pattern, names, n=5, cutoff=0.4) or names[:5]
    hint = ", ".join(map(repr, close)) or "it has no submodules"
    what = "`layer` must name a submodule of `model`"
    return f"{what}, got {pattern!r}. Close names: {hint}."
