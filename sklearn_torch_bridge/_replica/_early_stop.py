"""Record named layers and stop early, inside a `with` block."""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from sklearn_torch_bridge._errors import LayerNotRunError
from sklearn_torch_bridge._types import Inputs

__all__ = ["Record", "are_plain_names", "check_layers", "taps"]

Record = Callable[[str, Any], None]

_WILDCARDS = frozenset("*?[")


class _StopForwardError(BaseException):
    """Ends a forward pass; no model's ``except Exception`` shall catch it."""


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
    single = isinstance(layer, str) or not isinstance(layer, Iterable)
    patterns = [layer] if single else list(layer)
    names = [name for name, _ in module.named_modules() if name]
    aliases = {name for name, _ in module.named_modules(remove_duplicate=False)}
    found: dict[str, None] = {}
    for pattern in patterns:
        if not isinstance(pattern, str):
            msg = (
                "`layer` must be the name of a submodule, a list of names, or None, "
                f"got {pattern!r}."
            )
            raise TypeError(msg)
        matches = _matches(pattern, names, aliases)
        if not matches:
            raise ValueError(_unknown(pattern, names))
        found.update(dict.fromkeys(matches))
    if not found:
        msg = "`layer` must name at least one submodule, got an empty list."
        raise ValueError(msg)
    return tuple(found)


def are_plain_names(layer: str | Iterable[Any] | None) -> tuple[str, ...]:
    """Return the names of `layer` if none of them is a glob, each once; else nothing.

    >>> are_plain_names("encoder.0"), are_plain_names(["a", "b*"])
    (('encoder.0',), ())
    """
    names = [layer] if isinstance(layer, str) else list(layer or ())
    if all(isinstance(name, str) and not _WILDCARDS & set(name) for name in names):
        return tuple(dict.fromkeys(names))
    return ()


@contextmanager
def taps(
    module: nn.Module, layers: Sequence[str], record: Record
) -> Iterator[Callable[[Inputs], None]]:
    """Give a function that runs `module` and hands what `layers` return to `record`.

    The forward ends with the last layer asked for. The module's output is called "".
    """
    inner = [layer for layer in layers if layer]
    if not inner:
        yield partial(_run_to_the_end, module, record)
        return
    recorder = _Recorder(layers, record)
    handles = [
        _part(module, name).register_forward_hook(partial(recorder.hear, calls))
        for name, calls in _by_module(module, inner).items()
    ]
    try:
        yield partial(_run_until_heard, module, recorder)
    finally:
        for handle in handles:
            handle.remove()


def _part(module: nn.Module, name: str) -> nn.Module:
    """Find a submodule that can be listened to."""
    part = module
    for step in name.split("."):
        if not isinstance(part, torch.jit.ScriptModule):
            part = part.get_submodule(step)
        if isinstance(part, torch.jit.ScriptModule):
            msg = (
                f"`layer` must not name a scripted module or a part of one, got "
                f"{name!r}: nothing can be heard there. Take the model's output, or "
                "give the module that it was made from."
            )
            raise ValueError(msg)  # noqa: TRY004 - another `layer` would do
    return part


class _Recorder:
    """What is still to be heard in this forward pass."""

    def __init__(self, layers: Sequence[str], record: Record) -> None:
        self._layers = layers
        self._record = record
        self._calls: dict[int, int] = {}
        self.waiting: set[str] = set()
        self.error: Exception | None = None

    def begin(self) -> None:
        self._calls.clear()
        self.waiting = set(self._layers)
        self.error = None

    def end(self, output: Any) -> None:
        if "" in self.waiting:
            self._record("", output)
            self.waiting.discard("")

    def hear(
        self, wanted: dict[int, list[str]], module: nn.Module, _: Any, value: Any
    ) -> None:
        call = self._calls.get(id(wanted), 0)
        self._calls[id(wanted)] = call + 1
        for layer in wanted.get(call, ()):
            try:
                self._record(layer, value)
            except Exception as error:  # noqa: BLE001 - ours, not the model's: raised again outside it
                self.error = error
                raise _StopForwardError from None
            self.waiting.discard(layer)
        if not self.waiting:
            raise _StopForwardError


def _run_to_the_end(module: nn.Module, record: Record, inputs: Inputs) -> None:
    record("", module(*inputs.args, **inputs.kwargs))


def _run_until_heard(module: nn.Module, recorder: _Recorder, inputs: Inputs) -> None:
    recorder.begin()
    try:
        output = module(*inputs.args, **inputs.kwargs)
        if recorder.error is None:
            recorder.end(output)
    except _StopForwardError:
        pass
    except Exception:  # all was heard: then it is what the model made of our stop
        if recorder.waiting and recorder.error is None:
            raise
    error, recorder.error = recorder.error, None
    if error is not None:
        raise error from error.__cause__
    if not recorder.waiting:
        return
    missing = ", ".join(map(repr, sorted(recorder.waiting)))
    msg = (
        f"`layer` must name submodules that the forward pass calls, but {missing} did "
        "not run. A submodule is not heard where its `forward` is called directly, "
        "where it is scripted or compiled, or where this input takes another way."
    )
    raise LayerNotRunError(msg)


def _matches(pattern: str, names: list[str], aliases: set[str]) -> list[str]:
    if pattern in aliases:
        return [pattern]
    if _call_of(pattern)[0] in aliases:
        return [pattern]
    if not _WILDCARDS & set(pattern):
        return []
    expression = re.compile(_translate(pattern))
    return [name for name in names if expression.fullmatch(name)]


def _call_of(layer: str) -> tuple[str, int]:
    """Split the number of the call from a name.

    >>> _call_of("encoder.layer.2:1"), _call_of("encoder")
    (('encoder.layer.2', 1), ('encoder', 0))
    """
    name, colon, call = layer.rpartition(":")
    return (name, int(call)) if colon and call.isdecimal() else (layer, 0)


def _by_module(
    module: nn.Module, layers: Sequence[str]
) -> dict[str, dict[int, list[str]]]:
    """Sort layers by the submodule to hook, then by its call."""
    aliases = {name for name, _ in module.named_modules(remove_duplicate=False)}
    sorted_out: dict[str, dict[int, list[str]]] = {}
    for layer in layers:
        name, call = (layer, 0) if layer in aliases else _call_of(layer)
        sorted_out.setdefault(name, {}).setdefault(call, []).append(layer)
    return sorted_out


def _translate(pattern: str) -> str:
    """Turn a glob over dotted names into a regular expression.

    ``**.`` may also stand for nothing, so that ``**.dense`` finds ``dense`` as well.
    """
    known = {"**.": r"(?:.*\.)?", "**": ".*", "*": "[^.]*", "?": "[^.]"}
    parts = re.split(r"(\*\*\.|\*\*|\*|\?|\[[^\]]+\])", pattern)
    return "".join(
        known.get(
            part, part.replace("[!", "[^", 1) if part[:1] == "[" else re.escape(part)
        )
        for part in parts
    )


def _unknown(pattern: str, names: list[str]) -> str:
    close = difflib.get_close_matches(pattern, names, n=5, cutoff=0.4) or names[:5]
    hint = ", ".join(map(repr, close)) if close else "it has no submodules"
    return (
        f"`layer` must name a submodule of `model`, got {pattern!r}. Close names: "
        f"{hint}."
    )
