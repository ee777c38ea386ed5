"""Run a replica over batches into one result."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import repeat
from types import TracebackType
from typing import Any, Literal

import torch
from torch import nn

from sklearn_torch_bridge._compiled import compiled, twice
from sklearn_torch_bridge._devices import check_device
from sklearn_torch_bridge._errors import (
    ForwardError,
    LayerNotRunError,
    NotCompiledError,
)
from sklearn_torch_bridge._pinned_memory import (
    Deliver,
    PinnedStage,
    is_staged,
    to_device,
)
from sklearn_torch_bridge._replica import (
    Reader,
    ReadError,
    Reading,
    Record,
    replica,
    taps,
)
from sklearn_torch_bridge._results import Sink
from sklearn_torch_bridge._row_numbers import count_rows, describe_rows
from sklearn_torch_bridge._run._autocast import autocast_for
from sklearn_torch_bridge._run._progress import Advance
from sklearn_torch_bridge._run._sorted_batches import Batches
from sklearn_torch_bridge._run._threads import Threads
from sklearn_torch_bridge._run._token_budget import (
    USUAL_ROWS,
    batch_limits,
    is_out_of_memory,
    release_memory,
    safe_sizes,
)
from sklearn_torch_bridge._types import Feed, Inputs, Rows

__all__ = ["BadRow", "How", "extract", "on_device"]


@dataclass(frozen=True)
class How:
    """How to send rows through a model."""

    devices: tuple[str | torch.device, ...] = ("auto",)
    batch_size: int | Literal["auto"] = 32
    precision: str | None = None
    compile: bool = False
    say: Callable[[str], object] = str
    on_error: Literal["raise", "nan"] = "raise"
    num_workers: int = 0


@dataclass(frozen=True)
class BadRow:
    """A row of the caller's `X` that came to nothing, and why."""

    places: Rows
    error: Exception


def extract(
    module: nn.Module,
    feed: Feed,
    readings: Sequence[Reading],
    sink: Sink,
    *,
    how: How,
    advance: Advance,
) -> list[BadRow]:
    """Send every row of `feed` through the model once, and the results to `sink`.

    A batch that does not fit in memory is tried again in halves; with
    ``on_error="nan"`` one that fails otherwise is split until the bad row is alone.
    `feed` holds at least one row. `advance` hears how many rows were just done.
    """
    first = check_device(how.devices[0])
    batch_size, most = batch_limits(how.batch_size, feed, first)
    task = (str(first), readings[-1].layer, how.precision, type(feed))
    safe = safe_sizes.get(module, task)
    most = min((size for size in (most, safe) if size is not None), default=None)
    batches = Batches(len(feed), batch_size, feed.lengths, most, even=feed.even)
    run = _Run(module, feed, tuple(readings), sink, how, advance, batches, task)
    if len(how.devices) == 1:
        run.on(how.devices[0])
    else:
        _side_by_side(run.on, how.devices, batches)
    return run.bad


def _side_by_side(
    work: Callable[[Any], None], devices: Sequence[Any], batches: Batches
) -> None:
    """Let each device draw batches until none is left; the first error ends all."""

    def guarded(device: Any) -> None:
        try:
            work(device)
        except BaseException:
            batches.stop()
            raise

    threads = Threads(len(devices))
    try:
        for finish in [threads.begin(guarded, device) for device in devices]:
            finish()
        threads.end()
    except BaseException:  # Ctrl-C reaches this thread alone
        batches.stop()
        threads.end()
        raise


@dataclass
class _Run:
    """One pass over the rows of a feed, on one device or several."""

    module: nn.Module
    feed: Feed
    readings: tuple[Reading, ...]
    sink: Sink
    how: How
    advance: Advance
    batches: Batches
    task: object
    bad: list[BadRow] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def on(self, device: str | torch.device) -> None:
        """Run batches on one device until none is left."""
        layers = tuple(dict.fromkeys(one.layer for one in self.readings))
        reader = Reader(self.readings)
        with (
            replica(self.module, device) as (own, place),
            self._ready(own, place, layers, reader.read) as call,
            torch.inference_mode(),
            autocast_for(place, self.how.precision),
            self._delivery(place) as deliver,
        ):
            for rows, finish in self._prepared():
                inputs, done, short = None, True, False
                try:
                    inputs = finish() if finish else self.feed.batch(rows)
                    inputs = on_device(inputs, place)
                    n_rows = count_rows(rows)
                    if n_rows == 1 and self.how.compile:
                        inputs = twice(inputs)
                        reader.begin(inputs.mask, 2)
                    else:
                        reader.begin(inputs.mask, n_rows)
                    self._call(call, inputs, own, layers, rows)
                except Exception as error:
                    short = _is_short(error)
                    done = not self._take_back(rows, error, short=short)
                    if isinstance(error, ReadError) and done:
                        raise error.reason from error.reason.__cause__
                    if done:
                        raise
                # Out here a traceback is gone, with all tensors that it held; without
                # the batch its memory may serve the next, or a half of it.
                if done:
                    deliver(rows, reader.take(n_rows))
                del inputs
                if not done:
                    reader.begin(None, 0)
                    if short:
                        release_memory(place)

    @contextmanager
    def _ready(
        self, own: nn.Module, place: torch.device, layers: tuple[str, ...], read: Record
    ) -> Iterator[Callable[[Inputs], None]]:
        """Give the function that runs a batch: the model's forward, or code for it."""
        if not self.how.compile:
            with taps(own, layers, read) as call:
                yield call
            return
        size = self.how.batch_size
        yield compiled(
            self.module,
            own,
            layers,
            read,
            device=place,
            usual_rows=max(2, USUAL_ROWS if size == "auto" else min(size, USUAL_ROWS)),
            ragged=self.feed.lengths is not None,
            say=self.how.say,
        )

    @contextmanager
    def _delivery(self, place: torch.device) -> Iterator[Deliver]:
        """Give what takes results; what is under way arrives, also after an error."""
        if not is_staged(place):
            yield self._write
            return
        stage = PinnedStage(self._write)
        try:
            yield stage.put
        except BaseException:
            with suppress(Exception):  # the error that ended the run is told
                stage.finish()
            raise
        stage.finish()

    def _call(
        self,
        run: Callable[[Inputs], None],
        inputs: Inputs,
        own: nn.Module,
        layers: tuple[str, ...],
        rows: Rows,
    ) -> None:
        """Run the model on one batch; say what failed, and where."""
        try:
            run(inputs)
        except ReadError as error:
            where = f"layer {error.layer!r}" if error.layer else "the model's output"
            which = describe_rows(self.sink.caller_rows(rows))
            error.reason.add_note(f"While reading {where} of {which}.")
            raise
        except (LayerNotRunError, NotCompiledError):
            raise
        except Exception as error:
            places = self.sink.caller_rows(rows)
            msg = _failure(error, own, layers, places, inputs)
            raise ForwardError(msg) from error

    def _write(self, rows: Rows, pieces: list[torch.Tensor]) -> None:
        with self.lock:
            self.advance(self.sink.write(rows, pieces))

    def _take_back(self, rows: Rows, error: Exception, *, short: bool) -> bool:
        """Put a failed batch back in smaller parts, or a bad row aside."""
        if short and self.batches.halve(rows):
            safe_sizes.put(self.module, self.task, self.batches.most)
            return True
        if self.how.on_error == "raise" or isinstance(error, _NOT_OF_A_ROW):
            return False
        if not self.batches.split(rows):
            _forget_tracebacks(error)  # which would hold the tensors of the forward
            self.bad.append(BadRow(self.sink.caller_rows(rows), error))
        return True

    def _prepared(self) -> Iterator[tuple[Rows, Callable[[], Inputs] | None]]:
        """Give batches; with `num_workers`, threads prepare the next ones meanwhile."""
        if self.how.num_workers:
            return self._prepared_ahead()
        return zip(self.batches, repeat(None))

    def _prepared_ahead(self) -> Iterator[tuple[Rows, Callable[[], Inputs]]]:
        waiting: deque[tuple[Rows, Callable[[], Inputs]]] = deque()
        threads = Threads(self.how.num_workers)
        try:
            while True:
                while len(waiting) <= self.how.num_workers:
                    drawn = next(self.batches, None)
                    if drawn is None:
                        break
                    waiting.append((drawn, threads.begin(self.feed.batch, drawn)))
                if not waiting:
                    break
                rows, finish = waiting.popleft()
                if self.batches.is_too_large(rows):
                    self.batches.put_back(rows)
                else:
                    yield rows, finish
            threads.end()
        except BaseException:
            threads.end()
            raise


def _forget_tracebacks(error: BaseException | None) -> None:
    """Cut an error, and those that it came from, off the frames that they passed."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _is_short(error: Exception) -> bool:
    """Tell whether memory was wanting, also where the model's error is the cause."""
    return is_out_of_memory(error) or is_out_of_memory(error.__cause__)


# Another row would fail just so: what was asked of the model is wrong.
_NOT_OF_A_ROW = (LayerNotRunError, NotCompiledError, ReadError)


def on_device(inputs: Inputs, device: torch.device) -> Inputs:
    """Move the tensors of a model's inputs, unless there is one, where it should be."""
    if len(inputs.args) == 1 and not inputs.kwargs:
        (only,) = inputs.args
        if isinstance(only, torch.Tensor) and inputs.mask is None:
            if only.device == device:
                return inputs
            return Inputs((to_device(only, device),))
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
    goal = ", ".join(repr(layer) if layer else "the model's output" for layer in layers)
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
