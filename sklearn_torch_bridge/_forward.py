"""Run a replica over batches into one result."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sklearn_torch_bridge._batching import Batches, count_rows, describe_rows
from sklearn_torch_bridge._errors import ForwardError, LayerNotRunError
from sklearn_torch_bridge._replica import replica
from sklearn_torch_bridge._retry import (
    is_out_of_memory,
    release_memory,
    safe_sizes,
)
from sklearn_torch_bridge._select import select_output
from sklearn_torch_bridge._sink import ArraySink
from sklearn_torch_bridge._staging import PinnedStage, is_staged, to_device
from sklearn_torch_bridge._taps import taps
from sklearn_torch_bridge._types import Feed, Inputs, Pool, Rows, Selector
from sklearn_torch_bridge.pooling import POOLINGS

__all__ = ["Extracted", "Reading", "extract"]

_TWO_AXES = 2


@dataclass(frozen=True)
class Reading:
    """What is read off each forward pass."""

    layers: tuple[str, ...] = ()
    output: Selector = None
    pool: Pool | None = None
    dtype: np.dtype[Any] | None = None


@dataclass(frozen=True)
class Extracted:
    """The result, and how many of its columns each layer has."""

    array: NDArray[Any]
    widths: tuple[int, ...]


def extract(
    module: nn.Module,
    feed: Feed,
    reading: Reading,
    *,
    device: str | torch.device,
    batch_size: int,
    advance: Callable[[int], object],
) -> Extracted:
    """Send every row of `feed` through the model once; results come in order.

    A batch that does not fit in memory is tried again in halves. `feed` holds at least
    one row. `advance` hears how many rows were just done.
    """
    n_samples = len(feed) if feed.origin is None else len(feed.origin)
    sink = ArraySink(n_samples, reading.dtype, feed.origin)
    reader = _Reader(reading)
    with (
        replica(module, device) as (own, place),
        taps(own, reading.layers, reader.read) as run,
        torch.inference_mode(),
    ):
        stage = PinnedStage(sink.write) if is_staged(place) else None
        deliver = sink.write if stage is None else stage.put
        task = (str(place), reading.layers, type(feed))
        most = safe_sizes.get(module, task)
        batches = Batches(len(feed), batch_size, feed.lengths, most)
        for rows in batches:
            places = sink.caller_rows(rows)
            fits = True
            try:
                inputs = _on_device(feed.batch(rows), place)
                reader.begin(inputs.mask, rows, places)
                _call(run, inputs, own, reading.layers, places)
            except Exception as error:
                short = is_out_of_memory(error) or is_out_of_memory(error.__cause__)
                fits = not (short and batches.halve(rows))
                if fits:
                    raise
            if fits:
                deliver(rows, reader.pieces())
                advance(count_rows(places))
            # Out here a traceback is gone, with all tensors that it held; without the
            # batch its memory may serve the next, or a half of it.
            del inputs
            reader.forget()
            if not fits:
                safe_sizes.put(module, task, batches.most)
                release_memory(place)
        if stage is not None:
            stage.finish()
    assert sink.array is not None  # noqa: S101 - `feed` is not empty
    return Extracted(sink.array, sink.widths)


def _call(
    run: Callable[[Inputs], None],
    inputs: Inputs,
    own: nn.Module,
    layers: tuple[str, ...],
    places: Rows,
) -> None:
    """Run the model on one batch; say what failed, and where."""
    try:
        run(inputs)
    except _ReadError as error:
        raise error.reason from error.reason.__cause__
    except LayerNotRunError:
        raise
    except Exception as error:
        raise ForwardError(_failure(error, own, layers, places, inputs)) from error


class _ReadError(Exception):
    """Carries our own error through the model's forward."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(reason)
        self.reason = reason


class _Reader:
    """Turns what the layers return into one vector a row, as it comes.

    Pooling at once keeps memory small, and keeps values from a later layer that works
    in place.
    """

    def __init__(self, reading: Reading) -> None:
        self._output = reading.output
        self._pooling = reading.pool
        self._layers = reading.layers or ("",)
        several = len(self._layers) > 1
        self._needs_vectors = several or reading.pool is not None
        # Where every pooling we have a name for would hand on a vector as it is.
        by_name = reading.pool is None or reading.pool in POOLINGS.values()
        self._takes_vectors = by_name and reading.output is None and not several
        self.begin(None, slice(0, 0), slice(0, 0))

    def begin(self, mask: torch.Tensor | None, rows: Rows, places: Rows) -> None:
        """Expect the values of one batch."""
        self._mask, self._places = mask, places
        self._n_rows = count_rows(rows)
        self._found: dict[str, torch.Tensor] = {}

    def forget(self) -> None:
        """Let go of the values of a batch."""
        self._found = {}
        self._mask = None

    def read(self, layer: str, value: Any) -> None:
        """Take what `layer` returned; "" is the model's output."""
        if (
            self._takes_vectors
            and type(value) is torch.Tensor
            and value.ndim == _TWO_AXES
            and value.shape[0] == self._n_rows
        ):
            self._found[layer] = value
            return
        try:
            hidden = select_output(value, self._output)
            _check_tensor(hidden)
            pooled = self._pool(hidden)
            if pooled.shape[:1] != (self._n_rows,) or pooled.ndim != _TWO_AXES:
                pooled = self._check_rows(pooled, hidden)
        except Exception as error:
            where = f"layer {layer!r}" if layer else "the model's output"
            error.add_note(f"While reading {where} of {describe_rows(self._places)}.")
            raise _ReadError(error) from error
        if len(self._layers) > 1 and _shares_memory(pooled, hidden):
            pooled = pooled.clone()  # a later layer may work in place
        self._found[layer] = pooled

    def pieces(self) -> list[torch.Tensor]:
        """Give what was read, in the order of the layers asked for."""
        return [self._found[layer] for layer in self._layers]

    def _pool(self, hidden: torch.Tensor) -> torch.Tensor:
        if self._pooling is None:
            return hidden
        pooled = self._pooling(hidden, self._mask)
        if type(pooled) is not torch.Tensor:
            _check_tensor(pooled)
        return pooled

    def _check_rows(self, pooled: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """Make numbers a column; refuse what is not one vector per row."""
        if pooled.ndim == 0 or pooled.shape[0] != self._n_rows:
            msg = (
                f"the model must return one result per row, got shape "
                f"{tuple(hidden.shape)} for {self._n_rows} rows. Where the rows are on "
                "another axis, move them to the first (`batch_first=True`, or a "
                "callable `pooling`)."
            )
            raise ValueError(msg)
        if pooled.ndim == 1:
            return pooled.unsqueeze(1)
        if self._needs_vectors:
            msg = (
                "`pooling` must leave one vector per row, got shape "
                f"{tuple(pooled.shape)}. Take `pooling`='mean', 'flatten', or 'gap'."
            )
            raise ValueError(msg)
        return pooled


def _check_tensor(value: Any) -> None:
    if not isinstance(value, torch.Tensor):
        msg = (
            f"what is read off the model must be a tensor, got {type(value).__name__}. "
            "Choose a tensor with `output`, or tap another `layer`."
        )
        raise TypeError(msg)


def _shares_memory(one: torch.Tensor, other: torch.Tensor) -> bool:
    ours, theirs = one.untyped_storage(), other.untyped_storage()
    return ours.data_ptr() == theirs.data_ptr()


def _on_device(inputs: Inputs, device: torch.device) -> Inputs:
    """Move the tensors of a model's inputs, unless there is one, where it should be."""
    if len(inputs.args) == 1 and not inputs.kwargs:
        (only,) = inputs.args
        if isinstance(only, torch.Tensor) and only.device == device:
            return inputs
    args, kwargs = _move(inputs.args, device), _move(inputs.kwargs, device)
    return Inputs(args, kwargs, _move(inputs.mask, device))


def _move(value: Any, device: torch.device) -> Any:
    """Move tensors, however nested."""
    if isinstance(value, torch.Tensor):
        return to_device(value, device)
    if isinstance(value, Mapping):
        return {key: _move(item, device) for key, item in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_move(item, device) for item in value)
    return value


def _failure(
    error: Exception,
    module: nn.Module,
    layers: tuple[str, ...],
    places: Rows,
    inputs: Inputs,
) -> str:
    """Say which rows and which part of the model failed, and on the way to what."""
    goal = ", ".join(map(repr, layers)) if layers else "the model's output"
    part = _innermost(module, error.__traceback__)
    where = f"submodule {part!r}" if part else "the model's own forward"
    hint = ""
    given = inputs.args[0] if len(inputs.args) == 1 else None
    if isinstance(given, torch.Tensor) and not given.is_floating_point():
        hint = (
            f" `X` holds {given.dtype}, and integers are passed on as they are: for a "
            "model that takes floats give X.astype('float32')."
        )
    if is_out_of_memory(error) and count_rows(places) == 1:
        where += " (out of memory, with this row alone)"
    return (
        f"the model failed on {describe_rows(places)}, in {where} on the way to "
        f"{goal}: {type(error).__name__}: {error}{hint}"
    )


def _innermost(module: nn.Module, trace: TracebackType | None) -> str:
    """Name the innermost submodule whose code is on the traceback."""
    names = {id(part): name for name, part in module.named_modules()}
    found = ""
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        found = names.get(id(owner), found) or found
        trace = trace.tb_next
    return found
