"""Run a replica over batches into one result."""

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, Literal

import torch
from torch import nn

from sklearn_torch_bridge._compiled import compiled, repeat_single_row
from sklearn_torch_bridge._devices import check_device
from sklearn_torch_bridge._errors import (
    CacheError,
    ForwardError,
    LayerNotRunError,
    NotCompiledError,
)
from sklearn_torch_bridge._pinned_memory import Deliver, PinnedStage, is_staged
from sklearn_torch_bridge._replica import (
    Forwards,
    Reader,
    ReadError,
    Reading,
    Record,
    Replica,
    RunAgainError,
    UnfitModelError,
    findings_of,
    replica,
    taps,
)
from sklearn_torch_bridge._results import Sink
from sklearn_torch_bridge._row_numbers import count_rows, describe_rows, single_rows
from sklearn_torch_bridge._rows import Feed
from sklearn_torch_bridge._run._autocast import autocast_for
from sklearn_torch_bridge._run._failed_batches import (
    BadRow,
    FailedBatches,
    WriteError,
    release_memory,
)
from sklearn_torch_bridge._run._failure_message import failure_message
from sklearn_torch_bridge._run._inputs_on_device import on_device
from sklearn_torch_bridge._run._padding_trial import PaddingTrial
from sklearn_torch_bridge._run._plain_attention import first_by, first_plainly
from sklearn_torch_bridge._run._prepared_batches import (
    Prepare,
    PreparedBatches,
    batches_of,
)
from sklearn_torch_bridge._run._progress import Advance
from sklearn_torch_bridge._run._safe_sizes import safe_size
from sklearn_torch_bridge._run._second_look import SecondLook
from sklearn_torch_bridge._run._sorted_batches import Batches
from sklearn_torch_bridge._run._threads import Threads
from sklearn_torch_bridge._run._token_budget import USUAL_ROWS, batch_limits
from sklearn_torch_bridge._types import Inputs, Piece, Rows

__all__ = ["RunOptions", "extract"]

_ALL_AXES = 64  # more than a tensor has


_Drawn = tuple[Rows, Prepare | None]
Drawn = Iterator[_Drawn | None]
"""Batches, each with what prepares it; None once none is left."""


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
    keeps_rows: bool = False  # in a cache


def extract(
    module: nn.Module,
    feed: Feed,
    readings: Sequence[Reading],
    sink: Sink,
    *,
    options: RunOptions,
    advance: Advance,
    proven: bool = False,
) -> list[BadRow]:
    """Send every row of `feed` through the model once, and the results to `sink`.

    What becomes of a batch that fails is in `_failed_batches.py`. `feed` holds at least
    one row. `advance` is called with the number of rows just done. With `proven` some
    row has passed in an earlier run.
    """
    first = check_device(options.devices[0])
    batch_size, most = batch_limits(options.batch_size, feed, first)
    task = (str(first), readings[-1].layer, options.precision, type(feed))
    read, even = tuple(readings), feed.even
    if batch_size > 1 and feed.padded_by is not None:
        trial = PaddingTrial(module, read, first, options.num_workers)
        if trial.changes(feed):
            even, batch_size = True, batch_size if feed.lengths_are_exact else 1
    batches = batches_of(feed, batch_size, most, even=even)
    batches.begins_even = any(reading.pool is None for reading in readings)
    rows_of = sink.caller_rows
    run = _Run(
        module=module,
        feed=feed,
        readings=read,
        sink=sink,
        options=options,
        advance=advance,
        prepared=PreparedBatches(feed, batches, options.num_workers, rows_of),
        failed=FailedBatches(
            batches,
            safe_size(module, task),
            options.on_error,
            rows_of,
            proven=proven,
        ),
        ragged=_ALL_AXES if feed.groups is not None else int(feed.lengths is not None),
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
    feed: Feed
    readings: tuple[Reading, ...]
    sink: Sink
    options: RunOptions
    advance: Advance
    prepared: PreparedBatches
    failed: FailedBatches
    ragged: int
    lock: threading.Lock = field(default_factory=threading.Lock)

    def on(self, device: str | torch.device) -> None:
        """Run batches on one device until none is left."""
        layers = tuple(dict.fromkeys(one.layer for one in self.readings))
        findings = findings_of(self.module)
        given = _rounds(self.prepared)
        batches: Drawn = given
        is_alone = stays_watched = False
        with closing(given):
            while True:
                if not is_alone and findings.needs_rows_alone(layers):
                    batches, is_alone = _one_by_one(batches), True
                try:
                    self._run_replica(device, layers, batches, stays_watched)
                except _AgainFrom as again:
                    batches = chain([(again.rows, None)], batches)
                    stays_watched = again.stays_watched
                else:
                    return

    def _run_replica(
        self,
        device: str | torch.device,
        layers: tuple[str, ...],
        batches: Drawn,
        stays_watched: bool,
    ) -> None:
        """Run batches through one replica; `_AgainFrom` asks for another."""
        reader = Reader(self.readings, findings_of(self.module).kept)
        with (
            replica(self.module, device, is_kept=not self.options.compile) as lent,
            self._ready(lent, layers, reader.read) as call,
            torch.inference_mode(),
            autocast_for(lent.place, self.options.precision),
            self._delivery(lent.place) as (deliver, flush),
        ):
            lent.forwards.begin(layers, self.options.keeps_rows, stays_watched)
            if self.options.compile:
                _check_compilable(lent.forwards, layers)
            again = SecondLook(self.module, lent, layers, reader, call, self.feed)
            ready = _OnDevice(self, lent, layers, reader, call, deliver, flush, again)
            ready.run_all(batches)

    @contextmanager
    def _ready(
        self, lent: Replica, layers: tuple[str, ...], read: Record
    ) -> Iterator[Callable[[Inputs], None]]:
        """Yield what runs a batch: the model's forward, or code compiled for it."""
        lacks = any(one.missing for one in self.readings)
        if not self.options.compile:
            with taps(lent.module, layers, read) as call:
                yield first_plainly(call) if lacks else call
            return
        size = self.options.batch_size
        run = compiled(
            self.module,
            lent.module,
            layers,
            read,
            device=lent.place,
            usual_rows=max(2, USUAL_ROWS if size == "auto" else min(size, USUAL_ROWS)),
            ragged=self.ragged,
            report=self.options.report,
        )
        if not lacks:
            yield run
            return
        with (
            replica(self.module, lent.place) as other,
            taps(other.module, layers, read) as by,
        ):
            other.forwards.begin(layers, self.options.keeps_rows, False)
            look = partial(other.forwards.run, first_plainly(by), n_rows=1)
            yield first_by(look, run)

    @contextmanager
    def _delivery(
        self, place: torch.device
    ) -> Iterator[tuple[Deliver, Callable[[], None]]]:
        """Yield what takes results, and what waits until those under way have arrived.

        They arrive also after an error.
        """
        if not is_staged(place):
            yield self.write, _nothing
            return
        stage = PinnedStage(self.write)
        try:
            yield stage.put, stage.finish
        except BaseException:
            with suppress(Exception):  # the error that ended the run is raised
                stage.finish()
            raise
        stage.finish()

    def write(self, rows: Rows, pieces: Sequence[Piece]) -> None:
        """Write the results of a batch; a `WriteError` says what has no place."""
        with self.lock:
            try:
                n_done = self.sink.write(rows, pieces)
            except CacheError:
                raise
            except (TypeError, ValueError) as error:
                which = describe_rows(self.sink.caller_rows(rows))
                error.add_note(f"While writing the result of {which}.")
                raise WriteError(error, rows) from error
            self.advance(n_done)
        self.failed.doubt.is_over = True


def _nothing() -> None:
    """Wait for nothing."""


def _check_compilable(forwards: Forwards, layers: tuple[str, ...]) -> None:
    """Refuse to compile what is no function of the weights and the batch."""
    does = None
    if forwards.lent.copies_parameters():
        does = "writes to its weights"
    if layers in forwards.findings.draws:
        does = "draws random numbers"
    if does is not None:
        msg = (
            f"`compile` must be False for this model: its forward {does} in eval mode."
        )
        raise NotCompiledError(msg)


@dataclass(eq=False)
class _AgainFrom(BaseException):
    """Ends a replica: another one goes on from these rows."""

    rows: Rows
    stays_watched: bool


def _rounds(prepared: PreparedBatches) -> Generator[_Drawn | None, None, None]:
    """Yield batches, and None where none is left: some may come back until then."""
    while True:
        yield from prepared
        yield None


def _one_by_one(batches: Drawn) -> Drawn:
    for drawn in batches:
        if drawn is None:
            yield None
        else:
            for row in single_rows(drawn[0]):
                yield row, None


@dataclass
class _OnDevice:
    """One device, with a replica that is ready: it runs one batch after the other."""

    whole: _Run
    lent: Replica
    layers: tuple[str, ...]
    reader: Reader
    call: Callable[[Inputs], None]
    deliver: Deliver
    flush: Callable[[], None]
    again: SecondLook

    def run_all(self, batches: Drawn) -> None:
        """Run batches until none is left, and all results have arrived."""
        for drawn in batches:
            if drawn is not None:
                rows = drawn[0]
                try:
                    self._run(*drawn)
                except RunAgainError as again:
                    raise _AgainFrom(rows, again.stays_watched) from None
            elif not self._flush():
                return

    def _run(self, rows: Rows, prepare: Prepare | None) -> None:
        """Run one batch; one that failed may come again in smaller parts."""
        failed = self.whole.failed
        try:
            pieces = self._results_of(rows, prepare)
        except Exception as error:  # noqa: BLE001 - raised again, or put aside
            short = failed.take_or_raise(rows, error, self._results_of)
        else:
            if failed.size.most is not None:
                failed.fitted(rows)
            try:
                self.deliver(rows, pieces)
            except WriteError as error:
                failed.take_or_raise(error.rows, error, self._write_again)
            if not failed.doubt.is_over:  # until one has arrived
                self._flush()
            return
        # Out here a traceback is gone, with all tensors that it held; without the batch
        # its memory may serve the next, or a half of it.
        self.reader.begin(None, 0)
        if short:
            release_memory(self.lent.place)

    def _flush(self) -> bool:
        """Wait until results have arrived; True if some come again, in parts."""
        try:
            self.flush()
        except WriteError as error:
            try:
                self.whole.failed.take_or_raise(error.rows, error, self._write_again)
            except RunAgainError as again:
                raise _AgainFrom(error.rows, again.stays_watched) from None
            return True
        return False

    def _write_again(self, rows: Rows) -> None:
        """Run some rows of a batch whose results had no place."""
        self.whole.write(rows, self._results_of(rows))

    def _results_of(self, rows: Rows, prepare: Prepare | None = None) -> list[Piece]:
        """Prepare a batch, and return what is read of the model for it."""
        reader, n_rows = self.reader, count_rows(rows)
        inputs = prepare() if prepare else self.whole.prepared.prepare(rows)
        inputs = on_device(inputs, self.lent.place)
        if n_rows == 1 and self.whole.options.compile:
            inputs = repeat_single_row(inputs)
            reader.begin(inputs.mask, 2, inputs.n_prompt)
        else:
            reader.begin(inputs.mask, n_rows, inputs.n_prompt)
        reader.mask_alone = partial(self.again.mask_alone, rows)
        self._forward(inputs, rows)
        return reader.take(n_rows)

    def _forward(self, inputs: Inputs, rows: Rows) -> None:
        """Run the model on one batch; say what failed, and where."""
        try:
            self.lent.forwards.run(self.call, inputs, count_rows(rows))
            if self.reader.waiting:
                self.again.at(rows)
        except ReadError as error:
            where = f"layer {error.layer!r}" if error.layer else "the model's output"
            which = describe_rows(self.whole.sink.caller_rows(rows))
            error.reason.add_note(f"While reading {where} of {which}.")
            raise
        except LayerNotRunError as error:
            named = describe_rows(self.whole.sink.caller_rows(rows))
            error.add_note(f"While running {named}.")
            raise
        except (NotCompiledError, UnfitModelError):
            raise
        except Exception as error:
            own, rows_of = self.lent.module, self.whole.sink.caller_rows
            msg = failure_message(
                error, own, self.layers, inputs, rows=rows, caller_rows=rows_of
            )
            raise ForwardError(msg) from error
