"""A model compiled by `torch.compile`, kept between calls.

Compiling takes from seconds to a minute, so what was made is kept for as long as the
model lives and stays as it is. On the CPU weights become constants of the compiled
code, packed as its matrix products like them: so each call first compares the model
with what it was then, by value.
"""

import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import nn

from sklearn_torch_bridge._compiled._snapshot import Snapshot
from sklearn_torch_bridge._compiled._torch_compile import (
    compile_graph,
    compiler_errors,
    compiler_settings,
    describe_error,
    distance,
    forget_code,
    marked,
    repeated,
    traceable,
)
from sklearn_torch_bridge._errors import NotCompiledError
from sklearn_torch_bridge._tensor_bytes import contents
from sklearn_torch_bridge._types import Inputs

__all__ = ["compiled", "twice"]

Record = Callable[[str, Any], None]
Say = Callable[[str], object]

_MOST_KEPT = 8  # each holds, packed, the weights that it uses
_MOST_GRAPHS = 8  # each for inputs of another kind
_HALF = frozenset({torch.bfloat16, torch.float16})
_FAR = {True: 5e-2, False: 1e-3}  # in half precision, and in full

_CHANGES = (
    "`compile` must be False for this model: its code had to be compiled again and "
    "again. Something that it depends on changes from one batch to the next, such as "
    "an attribute that `forward` sets."
)


def compiled(
    module: nn.Module,
    own: nn.Module,
    layers: tuple[str, ...],
    record: Record,
    *,
    device: torch.device,
    usual_rows: int,
    ragged: bool,
    say: Say,
) -> Callable[[Inputs], None]:
    """Give a function that does what that of `taps` does for `own`, in compiled code.

    `own` is a replica of `module` that has not run yet, on `device`. Batches have two
    rows or more (see `twice`), mostly `usual_rows`; where `ragged`, they differ along
    the second axis too. The first batch compiles the code, unless an earlier call has.
    """
    scripted = any(isinstance(part, torch.jit.ScriptModule) for part in own.modules())
    if own is module or scripted:
        msg = (
            "`compile` must be False for a model that is scripted or compiled already, "
            "in whole or in part, and for one that cannot be copied, since a function "
            "or a hook of it closes over a part of it."
        )
        raise NotCompiledError(msg)
    entry = _KEPT.get(module, own, layers, device, say)
    return partial(entry.run, record, usual_rows=usual_rows, ragged=ragged, say=say)


def twice(inputs: Inputs) -> Inputs:
    """Repeat the only row of a batch: code for any number of rows begins at two."""
    args, kwargs, mask = repeated((inputs.args, inputs.kwargs, inputs.mask), 2)
    return Inputs(args, kwargs, mask)


class _Kept:
    """What was compiled last, each for as long as its module lives."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a module may end at any time, here too
        self._entries: OrderedDict[tuple[Any, ...], _Compiled] = OrderedDict()

    def get(
        self,
        module: nn.Module,
        own: nn.Module,
        layers: tuple[str, ...],
        device: torch.device,
        say: Say,
    ) -> "_Compiled":
        key = (weakref.ref(module, self._forget), layers, str(device))
        with self._lock:
            entry = self._entries.pop(key, None)
            if entry is not None and not entry.is_of(own):
                say("The model has changed since it was compiled.")
                entry = None
            self._entries[key] = entry = entry or _Compiled(own, layers, device)
            while len(self._entries) > _MOST_KEPT:
                self._entries.popitem(last=False)
        return entry

    def _forget(self, module: object) -> None:
        with self._lock:
            for key in [key for key in self._entries if key[0] is module]:
                del self._entries[key]


_KEPT = _Kept()


class _Compiled:
    """One replica, and the code made of its forward up to the last of `layers`."""

    def __init__(
        self, own: nn.Module, layers: tuple[str, ...], device: torch.device
    ) -> None:
        self._own = own
        self._device = device
        self._freezes = device.type == "cpu"
        self._snapshot = Snapshot(own, by_value=self._freezes)
        if not self._snapshot.is_of(own):
            msg = (
                "`compile` must be False for this model: it has a part that cannot be "
                "compared, so nothing would tell when it changes."
            )
            raise NotCompiledError(msg)
        self._forward, self._taps = traceable(own, layers)
        self._code = torch.compile(self._forward, fullgraph=True, backend=_backend)
        self._loaded: list[ModuleType] = []
        at_end = weakref.finalize(self, forget_code, self._forward, self._loaded)
        at_end.atexit = False
        self._lock = threading.RLock()
        self._written: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._is_ready = False
        self._n_graphs = 0
        self._say: Say = str

    def is_of(self, own: nn.Module) -> bool:
        """Tell whether a new replica computes what this one does."""
        return self._snapshot.is_of(own)

    def run(
        self, record: Record, inputs: Inputs, *, usual_rows: int, ragged: bool, say: Say
    ) -> None:
        """Run one batch, and hand what the layers return to `record`."""
        given = inputs.args, dict(inputs.kwargs)
        with (
            self._lock,
            torch.inference_mode(),
            compiler_settings(freezes=self._freezes),
        ):
            self._say = say
            if not self._is_ready:
                self._try_out(repeated(given, usual_rows), ragged=ragged)
            try:
                found = self._call(self._code, marked(given, ragged=ragged))
            except NotCompiledError:
                # Traced anew, for a batch of another kind; the model itself says best
                # what is wrong with that.
                self._call(self._forward, marked(given, ragged=ragged))
                raise
            if not self._is_ready and self._n_graphs > 1:
                raise NotCompiledError(_CHANGES)
            self._is_ready = True
        for layer, value in found.items():
            record(layer, value)

    def compile(self, graph: Any, examples: list[Any]) -> Callable[..., Any]:
        """Compile a graph that torch has traced."""
        if self._n_graphs == _MOST_GRAPHS:
            raise RuntimeError(_CHANGES)
        self._say("Compiling the model; this may take a minute.")
        code, loaded = compile_graph(graph, examples)
        self._loaded += loaded
        self._n_graphs += 1
        return code

    def _try_out(self, given: Any, *, ragged: bool) -> None:
        """Compile the code for a usual batch, and see that it does what it should.

        The model itself goes first: it says best what is wrong with a batch, and sets
        up what it only makes once.
        """
        buffers = [(buffer, buffer.clone()) for buffer in self._own.buffers()]
        expected = self._call(self._forward, marked(given, ragged=ragged))
        self._written = [pair for pair in buffers if _differ(*pair)]
        self._put_back()
        found = self._call(self._code, marked(given, ragged=ragged))
        far = distance(found, expected)
        if far > _FAR[self._is_half()]:
            msg = (
                "`compile` must be False for this model: compiled, it gives values "
                f"that differ by {far:.2g} of the largest. Some draw random numbers; "
                "of others PyTorch's developers would like to know."
            )
            raise NotCompiledError(msg)

    def _call(self, function: Callable[..., Any], given: Any) -> dict[str, Any]:
        args, kwargs = given
        n_graphs, began = self._n_graphs, time.perf_counter()
        under_way = _UNDER_WAY.set(self)
        try:
            found: dict[str, Any] = function(*args, **kwargs)
        except compiler_errors() as error:
            raise NotCompiledError(describe_error(error)) from error
        finally:
            _UNDER_WAY.reset(under_way)
            self._put_back()
        if self._n_graphs > n_graphs:
            self._say(f"Compiled in {time.perf_counter() - began:.0f} s.")
        return found

    def _is_half(self) -> bool:
        return torch.is_autocast_enabled(self._device.type) or any(
            tensor.dtype in _HALF for tensor in self._own.parameters()
        )

    def _put_back(self) -> None:
        """Let each batch find the buffers as they were, whoever ran before."""
        for buffer, before in self._written:
            buffer.copy_(before)


_UNDER_WAY: ContextVar[_Compiled] = ContextVar("_UNDER_WAY")


def _backend(graph: Any, examples: list[Any]) -> Callable[..., Any]:
    """Compile for whoever runs: torch never forgets a backend, so there is one."""
    return _UNDER_WAY.get().compile(graph, examples)


def _differ(one: torch.Tensor, other: torch.Tensor) -> bool:
    return contents(one.cpu()) != contents(other.cpu())
