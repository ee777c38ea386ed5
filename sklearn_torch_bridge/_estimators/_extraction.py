"""One call of an extractor: which rows must run, how, and into which result."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_torch_bridge._devices import check_device
from sklearn_torch_bridge._digest import digest, row_keys, rows_digest
from sklearn_torch_bridge._errors import BadRowWarning
from sklearn_torch_bridge._free_memory import check_fits
from sklearn_torch_bridge._known import (
    Recall,
    RememberingSink,
    fingerprint_model,
    settings_fingerprint,
)
from sklearn_torch_bridge._replica import Reading, are_plain_names, check_layers
from sklearn_torch_bridge._results import ArraySink, FileSink, Sink
from sklearn_torch_bridge._row_numbers import as_indices, count_rows, describe_rows
from sklearn_torch_bridge._rows import CheckedRows, made_up, make_feed
from sklearn_torch_bridge._run import Advance, BadRow, How, extract, progress, silent
from sklearn_torch_bridge._types import Feed, Indices, Pool, Selector
from sklearn_torch_bridge.cache import EmbeddingCache
from sklearn_torch_bridge.models import LoadedModel, load_model
from sklearn_torch_bridge.pooling import POOLINGS

__all__ = ["Extracted", "Extraction", "Wish"]

_CALLER = 5  # frames between a warning here and the call of `transform`


@dataclass(frozen=True)
class Wish:
    """What an extractor is asked for, its options checked."""

    layer: Any
    output: Selector
    pool: Pool | None
    dtype: np.dtype[Any] | None
    how: How
    preprocess: Any = None
    store: EmbeddingCache | None = None
    cache_key: str | None = None

    def readings(self, layers: Sequence[str]) -> tuple[Reading, ...]:
        """Give one reading a layer."""
        several = len(layers) > 1
        vector = several or self.pool is not None
        return tuple(
            Reading(layer, self.output, self.pool, vector) for layer in layers or ("",)
        )

    def fingerprint(self, model: bytes, reading: Reading) -> bytes:
        """Tell all that decides what a row becomes under a reading."""
        return settings_fingerprint(
            model,
            layer=reading.layer or None,
            output=reading.output,
            pooling=reading.pool,
            preprocess=self.preprocess,
            precision=self.how.precision,
            compile=self.how.compile,
            device_type=check_device(self.how.devices[0]).type,
            dtype=self.dtype,
            cache_key=self.cache_key,
        )


@dataclass(frozen=True)
class Extracted:
    """The result, and how many of its columns each layer has."""

    array: NDArray[Any]
    widths: tuple[int, ...]
    layers: tuple[str, ...]


class Extraction:
    """The rows of one call on their way into a result."""

    def __init__(
        self,
        estimator: Any,
        wish: Wish,
        rows: CheckedRows,
        others: Sequence[Wish] = (),
    ) -> None:
        self._estimator = estimator
        self._wish = wish
        self._rows = rows
        self._others = others  # of the same model and rows, for `to_cache`

    @property
    def n_samples(self) -> int:
        """Count the rows of `X`."""
        return self._rows.n_samples

    def joined(self, others: Sequence["Extraction"]) -> "Extraction":
        """Give an extraction for `to_cache`, of all that is asked of the same rows."""
        wishes = [other._wish for other in others]  # noqa: SLF001 - of this class
        return Extraction(self._estimator, self._wish, self._rows, wishes)

    def shared_settings(self) -> tuple[Any, ...]:
        """Tell what extractions must have in common to share a forward pass."""
        wish = self._wish
        model, _ = self._fingerprints
        neutral = replace(wish, layer=None, output=None, pool=None)
        rest = neutral.fingerprint(model, Reading())
        assert wish.store is not None  # noqa: S101 - asked of extractors with a cache
        return (rest, str(wish.store.path), wish.how.devices, wish.how.on_error)

    def setting(self) -> bytes:
        """Tell the setting apart from others of the same model and rows."""
        return b"".join(self._fingerprints[1])

    @cached_property
    def _loaded(self) -> LoadedModel:
        return load_model(self._estimator.model)

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Name the layers asked for; none: the model's output."""
        return self._layers_of(self._wish)

    def _layers_of(self, wish: Wish) -> tuple[str, ...]:
        # Of names that a cache knows no model need be loaded to tell that they exist.
        plain = () if wish.store is None else are_plain_names(wish.layer)
        if plain or wish.layer is None:
            return plain
        return check_layers(self._loaded.module, wish.layer)

    @cached_property
    def _readings(self) -> tuple[Reading, ...]:
        readings = list(self._wish.readings(self.layers))
        for wish in self._others:
            readings += wish.readings(self._layers_of(wish))
        return tuple(dict.fromkeys(readings)) if self._others else tuple(readings)

    def to_array(
        self,
        *,
        verbose: int = 0,
        like: NDArray[Any] | None = None,
        also: Advance = silent,
    ) -> Extracted:
        """Send every row through the model, into one array, of rows `like` these.

        `also` hears of rows done, beside the bar.
        """
        if like is not None:
            check_fits((self.n_samples, *like.shape[1:]), like.dtype)
        sink = ArraySink(self.n_samples, self._wish.dtype)
        bad = self._run(sink, verbose, also=also)
        array = self._filled(sink, bad, like)
        return Extracted(array, sink.widths, self.layers)

    def to_file(
        self, path: Path, *, verbose: int = 0, like: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        """Send the rows that are not in a file yet through the model, into it."""
        dtype = self._wish.dtype
        with FileSink(path, self.n_samples, dtype, self._identity()) as sink:
            if not sink.is_finished():
                finished = sink.finished_rows()
                self._filled(sink, self._run(sink, verbose, finished), like)
                sink.finish()
        result: NDArray[Any] = np.load(path, mmap_mode="r")
        return result

    def to_cache(self, *, verbose: int = 0) -> tuple[int, int]:
        """Send rows through the model that the cache lacks; count them and the others.

        One forward serves the readings of all wishes.
        """
        recall = self._recall()
        assert recall is not None  # noqa: S101 - asked of extractors with a cache
        which = self._rows.which_may_run()
        missing = np.ones(len(self._rows), bool)
        label = type(self._estimator).__name__
        with progress(len(which), label=label, verbose=verbose, also=silent) as advance:
            for rows, _ in recall.found(which):
                missing[rows] = False
                advance(len(rows), known=True)
            left = which[missing[which]]
            if len(left):
                feed = make_feed(self._rows, self._estimator, self._loaded, left)
                sink = RememberingSink(recall, left, self._wish.dtype, None)
                self._extract(feed, sink, advance)
        return len(left), len(which) - len(left)

    def of_first_row(self) -> Extracted:
        """Send one row through the model: the first that is not bad."""
        last: Exception | None = None
        for row in self._rows.which_may_run():
            one = Extraction(self._estimator, self._wish, self._rows.row(row))
            try:
                return one.to_array()
            except Exception as error:
                if self._wish.how.on_error == "raise":
                    raise
                last = error
        raise last or _all_bad([], self._rows)

    def of_no_rows(self) -> Extracted:
        """Give a result without rows, of the width of a made-up row."""
        feed = made_up(self._rows, self._estimator, self._loaded)
        sink = ArraySink(len(feed), self._wish.dtype)
        self._extract(feed, sink, silent)
        assert sink.array is not None  # noqa: S101 - `feed` is not empty
        return Extracted(sink.array[:0].copy(), sink.widths, self.layers)

    def _run(
        self,
        sink: ArraySink,
        verbose: int,
        finished: NDArray[np.bool_] | None = None,
        also: Advance = silent,
    ) -> list[BadRow]:
        """Send what is not known yet through the model."""
        label = type(self._estimator).__name__
        with progress(
            self.n_samples, label=label, verbose=verbose, also=also
        ) as advance:
            recall = self._recall()
            which = self._rows.which_may_run()
            if finished is not None:
                which = self._rows.without(which, finished)
                advance(int(finished.sum()), known=True)
            if recall is not None:
                which = self._fill_known(recall, which, sink, advance)
            if not len(which):
                return []
            all_of_them = len(which) == len(self._rows)
            sink.expect(self._rows.origin_of(None if all_of_them else which))
            feed = make_feed(
                self._rows,
                self._estimator,
                self._loaded,
                None if all_of_them else which,
            )
            if recall is None:
                return self._extract(feed, sink, advance)
            both = RememberingSink(recall, which, self._wish.dtype, sink)
            return self._extract(feed, both, advance)

    def _extract(self, feed: Feed, sink: Sink, advance: Advance) -> list[BadRow]:
        module, how = self._loaded.module, self._wish.how
        for wish in (self._wish, *self._others):
            if wish.store is not None:
                check_layers(module, wish.layer)  # not looked at before
        if isinstance(self._estimator.model, str) and "_fingerprints" in vars(self):
            self._check_files_are_the_same()
        readings = [self._with_defaults(reading) for reading in self._readings]
        return extract(module, feed, readings, sink, how=how, advance=advance)

    def _with_defaults(self, reading: Reading) -> Reading:
        """Take what the model brings along where nothing else is asked for."""
        loaded, output, pool = self._loaded, reading.output, reading.pool
        own = loaded.layer_pooling if reading.layer else loaded.pooling
        if output is None and not reading.layer:
            output = loaded.output
        if pool is POOLINGS["auto"]:
            pool = POOLINGS[own] if isinstance(own, str) else own
        return replace(reading, output=output, pool=pool)

    def _check_files_are_the_same(self) -> None:
        """Refuse to keep rows of a model whose files changed while it was loaded."""
        estimator = self._estimator
        now = fingerprint_model(estimator.model, cache_key=estimator.cache_key)
        if now != self._fingerprints[0]:
            msg = (
                f"The files of `model`={estimator.model!r} changed while it was "
                "loaded. Call again when they are whole."
            )
            raise RuntimeError(msg)

    def _recall(self) -> Recall | None:
        """Ask for what the cache knows, if there is one."""
        store = self._wish.store
        if store is None:
            return None
        model, fingerprints = self._fingerprints
        contents = row_keys(self._rows.values, b"")
        self._rows = self._rows.merged(contents)
        return Recall(store, fingerprints, contents, model)

    @cached_property
    def _fingerprints(self) -> tuple[bytes, list[bytes]]:
        """Tell what decides about a vector: for the model, and with each reading."""
        model = fingerprint_model(
            self._estimator.model, cache_key=self._estimator.cache_key
        )
        return model, [
            self._wish.fingerprint(model, reading) for reading in self._readings
        ]

    def _identity(self) -> bytes:
        """Tell what is in a file: the rows of `X` in their order, and the settings."""
        _, fingerprints = self._fingerprints
        origin = self._rows.origin
        return digest((rows_digest(self._rows.values), origin, *fingerprints))

    def _fill_known(
        self, recall: Recall, which: Indices, sink: ArraySink, advance: Advance
    ) -> Indices:
        """Put the rows that the cache has where they belong; return the others."""
        missing = np.ones(len(self._rows), bool)
        everything = self._rows.origin_of(None)
        sink.expect(everything)
        for rows, pieces in recall.found(which):
            sink.place(rows, pieces)
            missing[rows] = False
            advance(count_rows(sink.caller_rows(rows)), known=True)
        return which[missing[which]]

    def _filled(
        self, sink: ArraySink, bad: Sequence[BadRow], like: NDArray[Any] | None
    ) -> NDArray[Any]:
        """Make bad rows NaN, say which they are, and give the result.

        Where all of them are bad, a row `like` these tells what they would have been.
        """
        if sink.array is None and self._wish.how.on_error == "nan" and like is not None:
            sink.allocate([like.shape[1:]], like.dtype)
        if sink.array is None:
            raise _all_bad(bad, self._rows)
        places = [self._rows.bad, *(as_indices(one.places) for one in bad)]
        rows = np.unique(np.concatenate(places))
        if len(rows):
            if sink.array.dtype.kind not in "fc":
                msg = (
                    "`dtype` must hold NaN for `on_error`='nan', and the model gives "
                    f"{sink.array.dtype}. Ask for dtype='float64'."
                )
                raise ValueError(msg)
            sink.fill(rows, np.nan)
            reason = bad[0].error if bad else "missing, or not finite"
            named = describe_rows(rows)
            msg = f"{named} of `X` could not be used and became NaN ({reason})."
            warnings.warn(msg, BadRowWarning, stacklevel=_CALLER)
        return sink.array


def _all_bad(bad: Sequence[BadRow], rows: CheckedRows) -> Exception:
    if bad:
        return bad[0].error
    msg = (
        f"`X` must hold a row that can be used, but none of its {rows.n_samples} can. "
        "What such rows become is learnt in `fit`, from one that can."
    )
    return ValueError(msg)
