"""A model compiled by `torch.compile`, kept between calls.

Compiling takes up to a minute, so the code is kept for as long as the model lives and
stays as it is. On the CPU weights become constants of the code, packed for its matrix
products: so each call first compares the model with what it was then, by value.
"""

import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext
from contextvars import ContextVar
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import nn

from sklearn_torch_bridge import _torch_private
from sklearn_torch_bridge._compiled._index_bounds import check_bounds
from sklearn_torch_bridge._compiled._snapshot import Snapshot
from sklearn_torch_bridge._compiled._torch_compile import (
    copy_batch,
    describe_error,
    relative_error,
    repeat_rows,
    traceable,
)
from sklearn_torch_bridge._errors import NotCompiledError
from sklearn_torch_bridge._replica import Record
from sklearn_torch_bridge._tensor_bytes import tensor_checksum
from sklearn_torch_bridge._types import Inputs

__all__ = ["compiled", "repeat_single_row"]

Report = Callable[[str], object]

_MOST_MODELS = 8  # each holds, packed, the weights that it uses
_MOST_GRAPHS = 8  # each for inputs of another kind
_HALF = frozenset({torch.bfloat16, torch.float16})
_LARGEST_ERROR = {True: 5e-2, False: 1e-3}  # in half precision, and in full

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
    ragged: int,
    report: Report,
) -> Callable[[Inputs], None]:
    """Return a function that does what that of `taps` does for `own`, in compiled code.

    `own` is a replica of `module` that has not run yet, on `device`. Batches have two
    rows or more (see `repeat_single_row`), mostly `usual_rows`, and differ along as
    many axes behind the first as `ragged` says. The first batch compiles the code,
    unless an earlier call has. `report` is called with lines for the user.
    """
    scripted = any(isinstance(part, torch.jit.ScriptModule) for part in own.modules())
    if own is module or scripted:
        msg = (
            "`compile` must be False for a model that is scripted or compiled already, "
            "in whole or in part, and for one that cannot be copied, since a function "
            "or a hook of it closes over a part of it."
        )
        raise NotCompiledError(msg)
    key = (weakref.ref(module, _forget), layers, str(device))
    with _LOCK:
        entry = _KEPT.pop(key, None)
        if entry is not None and not entry.snapshot.matches(own):
            report("The model has changed since it was compiled.")
            entry = None
        _KEPT[key] = entry = entry or _CompiledModel(own, layers, device)
        while len(_KEPT) > _MOST_MODELS:
            _KEPT.popitem(last=False)
    return partial(
        entry.run, record, usual_rows=usual_rows, ragged=ragged, report=report
    )


def _forget(module: object) -> None:
    with _LOCK:
        for key in [key for key in _KEPT if key[0] is module]:
            del _KEPT[key]


def repeat_single_row(inputs: Inputs) -> Inputs:
    """Repeat the only row of a batch: code for any number of rows begins at two."""
    args, kwargs, mask = repeat_rows((inputs.args, inputs.kwargs, inputs.mask), 2)
    return Inputs(args, kwargs, mask, inputs.n_prompt)


class _CompiledModel:
    """One replica, and the code made of its forward up to the last of `layers`."""

    def __init__(
        self, own: nn.Module, layers: tuple[str, ...], device: torch.device
    ) -> None:
        self._own = own
        self._device = device
        self._freezes = device.type == "cpu"
        self.snapshot = Snapshot(own, by_value=self._freezes)
        if not self.snapshot.matches(own):
            msg = (
                "`compile` must be False for this model: it has a part that cannot be "
                "compared, so that a change of it would go unnoticed."
            )
            raise NotCompiledError(msg)
        self._forward, self._taps = traceable(own, layers)
        self._code = torch.compile(self._forward, fullgraph=True, backend=_backend)
        self._loaded: list[ModuleType] = []
        release = _torch_private.release_code
        weakref.finalize(self, release, self._forward, self._loaded).atexit = False
        self._lock = threading.RLock()
        self._written: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._is_ready = False
        self._n_graphs = 0
        self._report: Report = str

    def run(
        self,
        record: Record,
        inputs: Inputs,
        *,
        usual_rows: int,
        ragged: int,
        report: Report,
    ) -> None:
        """Run one batch, and pass what the layers return to `record`."""
        given = inputs.args, dict(inputs.kwargs)
        with (
            self._lock,
            torch.inference_mode(),
            _torch_private.freezing(check_bounds) if self._freezes else nullcontext(),
        ):
            self._report = report
            if not self._is_ready:
                self._try_out(repeat_rows(given, usual_rows), ragged=ragged)
            try:
                found = self._call(self._code, copy_batch(given, ragged=ragged))
            except NotCompiledError:
                # Traced anew, for a batch of another kind: the model's own error
                # explains best what is wrong with it.
                self._call(self._forward, copy_batch(given, ragged=ragged))
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
        self._report("Compiling the model; this may take a minute.")
        code, loaded = _torch_private.compile_graph(graph, examples)
        self._loaded += loaded
        self._n_graphs += 1
        return code

    def _try_out(self, given: Any, *, ragged: int) -> None:
        """Compile the code for a usual batch, and check that it computes the same.

        The model itself runs first: its error explains best what is wrong with a batch,
        and it sets up what it only makes once.
        """
        buffers = [(buffer, buffer.clone()) for buffer in self._own.buffers()]
        expected = self._call(self._forward, copy_batch(given, ragged=ragged))
        self._written = [
            (now, before)
            for now, before in buffers
            if tensor_checksum(now.cpu()) != tensor_checksum(before.cpu())
        ]
        self._put_back()
        found = self._call(self._code, copy_batch(given, ragged=ragged))
        error = relative_error(found, expected)
        dtypes = {weights.dtype for weights in self._own.parameters()}
        is_half = torch.is_autocast_enabled(self._device.type) or dtypes & _HALF
        if error > _LARGEST_ERROR[bool(is_half)]:
            msg = (
                "`compile` must be False for this model: compiled, it gives values "
                f"that differ by {error:.2g} of the largest. Some draw random numbers; "
                "of others PyTorch's developers would like to know."
            )
            raise NotCompiledError(msg)

    def _call(self, function: Callable[..., Any], given: Any) -> dict[str, Any]:
        args, kwargs = given
        n_graphs, began = self._n_graphs, time.perf_counter()
        under_way = _UNDER_WAY.set(self)
        try:
            found: dict[str, Any] = function(*args, **kwargs)
        except _torch_private.compiler_errors() as error:
            raise NotCompiledError(describe_error(error)) from error
        finally:
            _UNDER_WAY.reset(under_way)
            self._put_back()
        if self._n_graphs > n_graphs:
            self._report(f"Compiled in {time.perf_counter() - began:.0f} s.")
        return found

    def _put_back(self) -> None:
        """Restore the buffers, so that each batch finds them as they were."""
        for buffer, before in self._written:
            buffer.copy_(before)


_UNDER_WAY: ContextVar[_CompiledModel] = ContextVar("_UNDER_WAY")
_KEPT: OrderedDict[tuple[Any, ...], _CompiledModel] = OrderedDict()  # the last used
_LOCK = threading.RLock()  # a module may end at any time, under the lock as well


def _backend(graph: Any, examples: list[Any]) -> Callable[..., Any]:
    """Compile for the model that runs; one for all, as torch never forgets any."""
    return _UNDER_WAY.get().compile(graph, examples)
