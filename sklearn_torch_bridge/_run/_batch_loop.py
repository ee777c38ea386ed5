"""Run a replica over batches into one result."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from sklearn_torch_bridge._compiled import compiled, repeat_single_row
from sklearn_torch_bridge._devices import check_device
from sklearn_torch_bridge._errors import (
    ForwardError,
    LayerNotRunError,
    NotCompiledError,
)
from sklearn_torch_bridge._pinned_memory import Deliver, PinnedStage, is_staged
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
from sklearn_torch_bridge._rows import Feed
from sklearn_torch_bridge._run._autocast import autocast_for
from sklearn_torch_bridge._run._failed_batches import (
    BadRow,
    FailedBatches,
    release_memory,
    safe_sizes,
)
from sklearn_torch_bridge._run._failure_message import failure_message
from sklearn_torch_bridge._run._inputs_on_device import on_device
from sklearn_torch_bridge._run._padding_trial import PaddingTrial
from sklearn_torch_bridge._run._prepared_batches import Prepare, PreparedBatches
from sklearn_torch_bridge._run._progress import Advance
from sklearn_torch_bridge._run._second_look import SecondLook, axes_of_single_rows
from sklearn_torch_bridge._run._sorted_batches import Batches
from sklearn_torch_bridge._run._threads import Threads
from sklearn_torch_bridge._run._token_budget import USUAL_ROWS, batch_limits
from sklearn_torch_bridge._types import Inputs, Rows

__all__ = ["RunOptions", "extract"]


@dataclass(frozen=True)
class RunOptions:
    """Devices, batches, precision, and what to do with a row that fails."""

    devices: tuple[str | torch.device, ...] = ("auto",)
    batch_size: int | Literal["auto"] = 32
    precision: str | None = None
    compile: bool = False
    report: Callable[[str], object] = str  # called with a line on what takes long
    on_error: Literal["raise", "nan"] = "raise"
    num_workers: int = 0


def extract(
    module: nn.Module,
    feed: Feed,
    readings: Sequence[Reading],
    sink: Sink,
    *,
    options: RunOptions,
    advance: Advance,
) -> list[BadRow]:
    """Send every row of `feed` through the model once, and the results to `sink`.

    What becomes of a batch that fails is in `_failed_batches.py`. `feed` holds at least
    one row. `advance` is called with the number of rows just done.
    """
    first = check_device(options.devices[0])
    batch_size, most = batch_limits(options.batch_size, feed, first)
    task = (str(first), readings[-1].layer, options.precision, type(feed))
    safe = safe_sizes.get(module, task)
    most = min((size for size in (most, safe) if size is not None), default=None)
    read = tuple(readings)
    trial = PaddingTrial(module, read, first, options.precision, options.num_workers)
    even = feed.even
    if batch_size > 1 and trial.changes(feed):
        even, batch_size = True, batch_size if feed.lengths_are_exact else 1
    batches = Batches(len(feed), batch_size, feed.lengths, most, even=even)
    rows_of = sink.caller_rows
    run = _Run(
        module=module,
        readings=read,
        sink=sink,
        options=options,
        advance=advance,
        prepared=PreparedBatches(feed, batches, options.num_workers, rows_of),
        failed=FailedBatches(batches, module, task, options.on_error, rows_of),
        ragged=feed.lengths is not None,
    )
    if len(options.devices) == 1:
        run.on(options.devices[0])
    else:
        _side_by_side(run.on, options.devices, batches)
    return run.failed.bad


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
    readings: tuple[Reading, ...]
    sink: Sink
    options: RunOptions
    advance: Advance
    prepared: PreparedBatches
    failed: FailedBatches
    ragged: bool
    lock: threading.Lock = field(default_factory=threading.Lock)

    def on(self, device: str | torch.device) -> None:
        """Run batches on one device until none is left."""
        layers = tuple(dict.fromkeys(one.layer for one in self.readings))
        reader = Reader(self.readings, axes_of_single_rows(self.module))
        with (
            replica(self.module, device) as (own, place),
            self._ready(own, place, layers, reader.read) as call,
            torch.inference_mode(),
            autocast_for(place, self.options.precision),
            self._delivery(place) as deliver,
        ):
            again = SecondLook(
                self.module, own, place, layers, reader, call, self.prepared
            )
            ready = _OnDevice(self, own, place, layers, reader, call, deliver, again)
            for rows, prepare in self.prepared:
                ready.run(rows, prepare)

    @contextmanager
    def _ready(
        self, own: nn.Module, place: torch.device, layers: tuple[str, ...], read: Record
    ) -> Iterator[Callable[[Inputs], None]]:
        """Yield what runs a batch: the model's forward, or code compiled for it."""
        if not self.options.compile:
            with taps(own, layers, read) as call:
                yield call
            return
        size = self.options.batch_size
        yield compiled(
            self.module,
            own,
            layers,
            read,
            device=place,
            usual_rows=max(2, USUAL_ROWS if size == "auto" else min(size, USUAL_ROWS)),
            ragged=self.ragged,
            report=self.options.report,
        )

    @contextmanager
    def _delivery(self, place: torch.device) -> Iterator[Deliver]:
        """Yield what takes results; what is under way arrives, also after an error."""
        if not is_staged(place):
            yield self._write
            return
        stage = PinnedStage(self._write)
        try:
            yield stage.put
        except BaseException:
            with suppress(Exception):  # the error that ended the run is raised
                stage.finish()
            raise
        stage.finish()

    def _write(self, rows: Rows, pieces: list[torch.Tensor]) -> None:
        with self.lock:
            self.advance(self.sink.write(rows, pieces))


@dataclass
class _OnDevice:
    """One device, with a replica that is ready: it runs one batch after the other."""

    whole: _Run
    own: nn.Module
    place: torch.device
    layers: tuple[str, ...]
    reader: Reader
    call: Callable[[Inputs], None]
    deliver: Deliver
    again: SecondLook

    def run(self, rows: Rows, prepare: Prepare | None) -> None:
        """Run one batch; one that failed may come again in smaller parts."""
        inputs: Inputs | None
        reader, n_rows = self.reader, count_rows(rows)
        try:
            inputs = prepare() if prepare else self.whole.prepared.prepare(rows)
            inputs = on_device(inputs, self.place)
            if n_rows == 1 and self.whole.options.compile:
                inputs = repeat_single_row(inputs)
                reader.begin(inputs.mask, 2)
            else:
                reader.begin(inputs.mask, n_rows)
            self._forward(inputs, rows)
        except Exception as error:  # noqa: BLE001 - raised again, or put aside
            short = self.whole.failed.take_or_raise(rows, error)
        else:
            self.deliver(rows, reader.take(n_rows))
            return
        # Out here a traceback is gone, with all tensors that it held; without the batch
        # its memory may serve the next, or a half of it.
        inputs = None
        reader.begin(None, 0)
        if short:
            release_memory(self.place)

    def _forward(self, inputs: Inputs, rows: Rows) -> None:
        """Run the model on one batch; say what failed, and where."""
        try:
            self.call(inputs)
            if self.reader.waiting:
                self.again.at(rows)
        except ReadError as error:
            where = f"layer {error.layer!r}" if error.layer else "the model's output"
            which = describe_rows(self.whole.sink.caller_rows(rows))
            error.reason.add_note(f"While reading {where} of {which}.")
            raise
        except (LayerNotRunError, NotCompiledError):
            raise
        except Exception as error:
            places = self.whole.sink.caller_rows(rows)
            msg = failure_message(error, self.own, self.layers, places, inputs)
            raise ForwardError(msg) from error
