"""Record what named layers return, and end the forward pass after the last of them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from sklearn_torch_bridge._errors import LayerNotRunError
from sklearn_torch_bridge._replica._layer_names import calls_by_module
from sklearn_torch_bridge._types import Inputs

__all__ = ["Record", "taps"]

Record = Callable[[str, Any], None]


class _StopForwardError(BaseException):
    """Ends a forward pass; no model's ``except Exception`` shall catch it."""


@contextmanager
def taps(
    module: nn.Module, layers: Sequence[str], record: Record
) -> Iterator[Callable[[Inputs], None]]:
    """Yield a function that runs `module` and passes what `layers` return to `record`.

    The forward ends with the last layer asked for. The module's output is called "".
    """
    inner = [layer for layer in layers if layer]
    if not inner:
        yield lambda inputs: record("", module(*inputs.args, **inputs.kwargs))
        return
    tap = _Tap(layers, record)
    handles = [
        _part(module, name).register_forward_hook(partial(tap.record, calls))
        for name, calls in calls_by_module(module, inner).items()
    ]
    try:
        yield partial(tap.run, module)
    finally:
        for handle in handles:
            handle.remove()


def _part(module: nn.Module, name: str) -> nn.Module:
    """Return the submodule of that name, where a hook can record it."""
    part = module
    for step in name.split("."):
        if not isinstance(part, torch.jit.ScriptModule):
            part = part.get_submodule(step)
        if isinstance(part, torch.jit.ScriptModule):
            msg = (
                f"`layer` must not name a scripted module or a part of one, got "
                f"{name!r}: nothing can be recorded there. Take the model's output, or "
                "give the module that it was made from."
            )
            raise ValueError(msg)  # noqa: TRY004 - another `layer` would do
    return part


class _Tap:
    """Runs a module until its layers are recorded, and knows which are missing.

    It does not hold the module, whose hooks hold it: both end without a collection.
    """

    def __init__(self, layers: Sequence[str], record: Record) -> None:
        self._layers = layers
        self._record = record
        self._begin()

    def _begin(self) -> None:
        self._calls: dict[int, int] = {}
        self._missing = set(self._layers)
        self._error: Exception | None = None

    def run(self, module: nn.Module, inputs: Inputs) -> None:
        """Run one forward pass."""
        self._begin()
        try:
            output = module(*inputs.args, **inputs.kwargs)
            if self._error is None and "" in self._missing:
                self._record("", output)
                self._missing.discard("")
        except _StopForwardError:
            pass
        except Exception:  # all is recorded: then it is what the model made of our stop
            if self._missing and self._error is None:
                raise
        error, self._error = self._error, None
        if error is not None:
            raise error from error.__cause__
        if self._missing:
            names = ", ".join(map(repr, sorted(self._missing)))
            msg = (
                "`layer` must name submodules that the forward pass calls, but "
                f"{names} did not run. A submodule is not recorded where its `forward` "
                "is called directly, where it is scripted or compiled, or where this "
                "input takes another way."
            )
            raise LayerNotRunError(msg)

    def record(
        self, wanted: dict[int, list[str]], module: nn.Module, _: Any, value: Any
    ) -> None:
        """Record a call, as a forward hook; `wanted` has the layers of each call."""
        call = self._calls.get(id(wanted), 0)
        self._calls[id(wanted)] = call + 1
        for layer in wanted.get(call, ()):
            try:
                self._record(layer, value)
            except Exception as error:  # noqa: BLE001 - ours, not the model's: raised again outside it
                self._error = error
                raise _StopForwardError from None
            self._missing.discard(layer)
        if not self._missing:
            raise _StopForwardError
