"""A call, run: the rows that must run go through the model, into a result."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_torch_bridge._digest import digest
from sklearn_torch_bridge._estimators._extracted import Extracted, is_of_any_length
from sklearn_torch_bridge._estimators._extractor_options import request_of
from sklearn_torch_bridge._estimators._long_rows import (
    RowTooLongError,
    notes_of,
    warn_of_cuts,
)
from sklearn_torch_bridge._estimators._low_rates import warn_of_low_rates
from sklearn_torch_bridge._estimators._nan_rows import all_bad, filled
from sklearn_torch_bridge._estimators._plan import Plan
from sklearn_torch_bridge._estimators._windowed_runs import rows_of_windows, run_windows
from sklearn_torch_bridge._free_memory import check_fits
from sklearn_torch_bridge._known import (
    Recall,
    RememberingSink,
    RowContents,
    SteadySink,
)
from sklearn_torch_bridge._results import ArraySink, EntriesSink, FileSink, Sink
from sklearn_torch_bridge._row_numbers import as_indices, count_rows
from sklearn_torch_bridge._rows import (
    CheckedRows,
    Feed,
    FeedError,
    SubsetFeed,
    check_rows,
    check_takes_prompt,
    made_up_rows,
    make_feed,
)
from sklearn_torch_bridge._run import (
    ADVICE,
    Advance,
    BadRow,
    enough_alike,
    evenly,
    extract,
    first_inputs,
    progress,
    silent,
)
from sklearn_torch_bridge._types import Indices, Inputs

__all__ = ["Extraction", "plan_extraction"]

_TWO_AXES = 2


def plan_extraction(extractor: Any, X: Any, *, reset: bool) -> "Extraction":
    """Check the options of an extractor, and `X`; with `reset` it learns names."""
    plan = Plan(request_of(extractor))
    rows = check_rows(extractor, X, reset=reset)
    check_takes_prompt(rows, plan.request.preprocess, plan.request.prompt)
    return Extraction(plan, rows)


class Extraction:
    """The rows of one call on their way into a result, as a plan says."""

    def __init__(
        self, plan: Plan, rows: CheckedRows, names: Indices | None = None
    ) -> None:
        self.plan = plan
        self._rows = rows
        self._names = names  # of the rows in the caller's `X`, where these are some
        self.long = plan.long_rows(rows)

    def joined(self, others: Sequence["Extraction"]) -> "Extraction":
        """Return an extraction for `to_cache`, of all that is asked of these rows."""
        requests = [other.plan.request for other in others]
        return Extraction(Plan(self.plan.request, requests), self._rows)

    def distinct_rows(self) -> frozenset[bytes]:
        """Return what tells these rows from others, whatever their order."""
        contents = self._contents().of_each(self._rows.values)
        return frozenset(contents[row] for row in self._rows.which_may_run())

    @property
    def n_samples(self) -> int:
        """The number of rows of `X`."""
        return self._rows.n_samples

    def to_array(
        self,
        *,
        verbose: int = 0,
        like: NDArray[Any] | None = None,
        is_old: Callable[[], bool] = bool,
        also: Advance = silent,
    ) -> Extracted:
        """Send all rows through the model, into an array; call `also` for rows done.

        Where none can be used, `like` shows what they would be, or a made-up row if
        that `is_old`.
        """
        # Without a pooling a row need not be as large as the one that `fit` has seen.
        if like is not None and self.plan.request.pool is not None:
            check_fits((self.n_samples, *like.shape[1:]), like.dtype)
        sink = self._sink(self._rows)
        bad = self._run(sink, verbose, also=also, proven=like is not None)
        shown = self._made_up() if sink.array is None and is_old() else like
        array = filled(sink, self._rows, bad, shown)
        warn_of_cuts([self.long], self._names)
        return Extracted(array, sink.widths, self.plan.layers)

    def to_file(
        self,
        path: Path,
        *,
        verbose: int = 0,
        like: NDArray[Any] | None = None,
        is_old: Callable[[], bool] = bool,
    ) -> NDArray[Any]:
        """Send the rows that are not in a file yet through the model, into it."""
        dtype = self.plan.request.dtype
        self._check_one_shape(like)
        self.plan.drops_received()  # before rows of the file are believed
        with FileSink(path, self.n_samples, dtype, self._identity()) as sink:
            sink.first_columns = self.plan.first_columns
            if sink.is_finished():
                self.long.hear_of_file(sink)
            else:
                done = sink.finished_rows()
                if done.any():
                    self.long.hear_of_file(sink)
                proven = like is not None or bool(done.any())
                bad = self._run(sink, verbose, done, proven=proven)
                shown = self._made_up() if sink.array is None and is_old() else like
                filled(sink, self._rows, bad, shown)
                sink.finish()
        warn_of_cuts([self.long])
        result: NDArray[Any] = np.load(path, mmap_mode="r")
        return result

    def to_cache(self, *, verbose: int = 0) -> tuple[int, int]:
        """Send rows that the cache lacks through the model; count these and others."""
        recall, request = self._recall(), self.plan.request
        assert recall is not None  # noqa: S101 - asked of extractors with a cache
        which, label = self._rows.which_may_run(), request.label
        with progress(len(which), label=label, verbose=verbose, also=silent) as advance:
            recall, left = self._look_up(recall, which, None, advance)
            known = len(which) - len(left)
            feed, left, _ = self._feed(left)
            if feed is not None:
                rows_of = partial(self._rows.caller_rows, which=left)
                sink = RememberingSink(
                    recall, left, request.dtype, None, rows_of, partial(notes_of, feed)
                )
                self._extract(feed, sink, advance, proven=known > 0)
        return len(left), known

    def _feed(self, which: Indices) -> tuple[Feed | None, Indices, list[BadRow]]:
        """Return a feed of the values that may run, which these are, and rows that not.

        None of those that are too long, where these are refused.
        """
        feed = None
        if len(which):
            some = None if len(which) == len(self._rows) else which
            feed = make_feed(self._rows, self.plan.receiver, some)
            usable = self.long.hear_of_feed(self._rows, which, feed)
            if usable is not None:
                which = which[usable]
                feed = SubsetFeed(feed, np.flatnonzero(usable)) if len(which) else None
        return feed, which, self.long.refused(self._names)

    def of_first_row(self, *, quietly: bool = False) -> Extracted:
        """Send one row through the model: the first that is not bad."""
        errors: list[Exception] = []
        too_long: list[Exception] = []
        for row in _first_then_all_over(self._rows.which_may_run()):
            names = as_indices(self._rows.caller_rows(np.array([row]), None))
            one = Extraction(self.plan, self._rows.row(row), names)
            if quietly:
                one.long.mute()
            try:
                return one.to_array()
            except Exception as error:
                if self.plan.request.run.on_error == "raise":
                    raise
                if isinstance(error, RowTooLongError):  # no other row's fault
                    too_long.append(error)
                    continue
                errors.append(error)
                if enough_alike(errors):
                    errors[0].add_note(ADVICE)
                    break
        errors += too_long
        raise errors[0] if errors else all_bad([], self._rows)

    def of_no_rows(self) -> Extracted:
        """Return a result without rows, of the width of a made-up row."""
        made = self._of_made_up_row()
        return replace(made, array=made.array[:0].copy())

    def _of_made_up_row(self) -> Extracted:
        rows = made_up_rows(self._rows, self.plan.receiver)
        feed, sink = make_feed(rows, self.plan.receiver), self._sink(rows)
        bad = self._extract(feed, sink, silent)
        if bad:
            raise bad[0].error
        assert sink.array is not None  # noqa: S101 - `feed` is not empty
        return Extracted(sink.array, sink.widths, self.plan.layers)

    def _made_up(self) -> NDArray[Any] | None:
        """Return no rows of the width of a made-up one, if it can be made up."""
        with suppress(Exception):  # what is wrong with the rows is said then
            return self._of_made_up_row().learnt
        return None

    def first_batch(self, n_rows: int) -> tuple[Inputs, int]:
        """Prepare a batch of the longest among the first rows, and count them."""
        feed, which = self._first_rows(n_rows)
        with self._named(which):
            return first_inputs(feed)

    def repeated_row(self, n_rows: int, n_times: int) -> Inputs:
        """Prepare a batch of the longest among the first rows, several times."""
        feed, which = self._first_rows(n_rows)
        longest = 0 if feed.lengths is None else int(np.argmax(feed.lengths))
        with self._named(which):
            return feed.batch(np.repeat(longest, n_times))

    def _first_rows(self, n_rows: int) -> tuple[Feed, Indices]:
        which = self._rows.which_may_run()[:n_rows]
        if not len(which):
            msg = "`X` must hold a row that can be used, got none."
            raise ValueError(msg)
        return make_feed(self._rows, self.plan.receiver, which), which

    @contextmanager
    def _named(self, which: Indices) -> Iterator[None]:
        """Name the rows of `X` in the errors of a feed of `which`."""
        try:
            yield
        except FeedError as error:
            named = self._rows.caller_rows(error.rows, which)
            raise error.for_rows(named)  # noqa: B904 - it has its cause

    def _sink(self, rows: CheckedRows) -> ArraySink:
        """Return what takes the results of all rows, in memory."""
        n_samples, dtype = rows.n_samples, self.plan.request.dtype
        if self.plan.request.pool is not None:
            sink = ArraySink(n_samples, dtype)
        else:
            tokens, differs = rows.has_tokens, rows.differs_in_shape
            sink = EntriesSink(n_samples, dtype, tokens=tokens, all_rows=differs)
        sink.first_columns = self.plan.first_columns
        return sink

    def _check_one_shape(self, like: NDArray[Any] | None) -> None:
        """Refuse a file for rows of any length; a row is run if none was seen."""
        if self.plan.request.pool is not None or not self._rows.has_tokens:
            return
        if like is None or (like.ndim > _TWO_AXES and not is_of_any_length(like)):
            array = self.of_first_row(quietly=True).array
        else:
            array = like
        if array.dtype == object or is_of_any_length(array):
            msg = (
                "`pooling` must not be None for a file, which has rows of one shape: "
                "these have an array each, of their own length. Name a `pooling`, or "
                "call `transform`."
            )
            raise ValueError(msg)

    def _run(
        self,
        sink: ArraySink,
        verbose: int,
        finished: NDArray[np.bool_] | None = None,
        also: Advance = silent,
        *,
        proven: bool,
    ) -> list[BadRow]:
        """Send what is not known yet through the model."""
        request = self.plan.request
        n_samples, label = self.n_samples, request.label
        with progress(n_samples, label=label, verbose=verbose, also=also) as advance:
            recall = self._recall()
            which = self._rows.which_may_run()
            if finished is not None:
                which = self._rows.without(which, finished)
                advance(int(finished.sum()), known=True)
            if recall is not None:
                wanted = which
                recall, which = self._look_up(recall, which, sink, advance)
                proven = proven or len(which) < len(wanted)
            feed, which, too_long = self._feed(which)
            self.long.note_in(sink)
            if feed is None:
                return too_long
            is_all = len(which) == len(self._rows)
            sink.expect(self._rows.origin_of(None if is_all else which))
            sink.keeps_shape = lambda: feed.keeps_shape
            target: Sink = sink
            if recall is not None:
                rows_of, notes = sink.caller_rows, partial(notes_of, feed)
                target = RememberingSink(
                    recall, which, request.dtype, sink, rows_of, notes
                )
            return too_long + self._extract(feed, target, advance, proven=proven)

    def _extract(
        self, feed: Feed, sink: Sink, advance: Advance, *, proven: bool = False
    ) -> list[BadRow]:
        plan = self.plan
        readings = plan.readings_of_model()
        plan.check_files_are_the_same()
        module, options = plan.loaded.module, plan.request.run
        run = partial(extract, module, options=options, advance=advance)
        if feed.spans is not None:
            run = partial(run_windows, run, plan.loaded)
        if plan.must_be_steady():
            steady = SteadySink(sink, plan.steadiness)
            bad = run(feed, readings, steady, proven=proven)
            advance(steady.finish())
        else:
            bad = run(feed, readings, sink, proven=proven)
        rows_of = rows_of_windows(feed, sink.caller_rows)
        warn_of_low_rates(feed.low_rates, rows_of, bad)
        return bad

    def _recall(self) -> Recall | None:
        """Return what the cache knows, if there is one."""
        store = self.plan.request.store
        if store is None:
            return None
        model, fingerprints = self.plan.fingerprints
        contents = self._contents().of_each(self._rows.values)
        self._rows = self._rows.merged(contents)
        any_shape = any(reading.pool is None for reading in self.plan.readings)
        return Recall(store, fingerprints, contents, model, any_shape)

    def _contents(self) -> RowContents:
        request = self.plan.request
        return RowContents(request.preprocess, request.cache_key)

    def _identity(self) -> bytes:
        """Return what a file is of: the rows of `X` in their order, and settings."""
        rows, settings = self._rows, self.plan.fingerprints[1]
        contents = self._contents().of_all(rows.values)
        width = self.plan.request.truncate_dim
        others = ("without long rows",) if self.long.refuses else ()
        return digest((contents, rows.origin, width, *settings, *others))

    def _look_up(
        self,
        recall: Recall,
        which: Indices,
        sink: ArraySink | None,
        advance: Advance,
    ) -> tuple[Recall, Indices]:
        """Return the rows that must run, and what they will be cached in."""
        missing = self._missing(recall, which, sink, advance)
        if len(missing) and self.plan.drops_received():
            if sink is not None:
                sink.release()
                sink.first_columns = self.plan.first_columns
            model, fingerprints = self.plan.fingerprints
            recall = replace(recall, fingerprints=fingerprints, model=model)
            missing = self._missing(recall, which, sink, advance)
        return recall, missing

    def _missing(
        self, recall: Recall, which: Indices, sink: ArraySink | None, advance: Advance
    ) -> Indices:
        """Return the rows that the cache lacks; put the others into `sink`, if any."""
        missing = np.ones(len(self._rows), bool)
        self.long.restart()
        if sink is not None:
            sink.expect(self._rows.origin)
        for found, vectors, notes in recall.found(which):
            missing[found] = False
            rows, pieces = self.long.hear_of_cached(self._rows, found, vectors, notes)
            if not len(rows):
                continue
            self.long.note_in(sink)
            if sink is not None:
                sink.place(rows, pieces)
            given = rows if sink is None else sink.caller_rows(rows)
            advance(count_rows(given), known=True)
        return which[missing[which]]


def _first_then_all_over(rows: Indices) -> Iterator[int]:
    """Yield the first row, some from all over, then the others.

    >>> [*_first_then_all_over(np.arange(12))]
    [0, 2, 4, 5, 7, 9, 11, 1, 3, 6, 8, 10]
    """
    early = np.unique([0, *evenly(len(rows), 7).clip(0)])[: len(rows)]
    yield from map(int, rows[early])
    yield from map(int, np.delete(rows, early))
