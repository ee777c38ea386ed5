"""One call of an extractor: which rows must run, how, and into which result."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_torch_bridge._batching import as_indices, describe_rows
from sklearn_torch_bridge._errors import BadRowWarning
from sklearn_torch_bridge._feeds import CheckedRows, made_up, make_feed, origin_of
from sklearn_torch_bridge._forward import BadRow, How, Reading, extract
from sklearn_torch_bridge._memory import check_fits
from sklearn_torch_bridge._progress import progress
from sklearn_torch_bridge._sink import ArraySink
from sklearn_torch_bridge._taps import check_layers
from sklearn_torch_bridge._types import Feed, Pool, Selector
from sklearn_torch_bridge.models import LoadedModel, load_model

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

    def readings(self, layers: Sequence[str]) -> tuple[Reading, ...]:
        """Give one reading a layer."""
        several = len(layers) > 1
        vector = several or self.pool is not None
        return tuple(
            Reading(layer, self.output, self.pool, vector) for layer in layers or ("",)
        )


@dataclass(frozen=True)
class Extracted:
    """The result, and how many of its columns each layer has."""

    array: NDArray[Any]
    widths: tuple[int, ...]
    layers: tuple[str, ...]


class Extraction:
    """The rows of one call on their way into a result."""

    def __init__(self, estimator: Any, wish: Wish, rows: CheckedRows) -> None:
        self._estimator = estimator
        self._wish = wish
        self._rows = rows

    @property
    def n_samples(self) -> int:
        """Count the rows of `X`."""
        return self._rows.n_samples

    @cached_property
    def _loaded(self) -> LoadedModel:
        return load_model(self._estimator.model)

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Name the layers asked for; none: the model's output."""
        return check_layers(self._loaded.module, self._wish.layer)

    @cached_property
    def _readings(self) -> tuple[Reading, ...]:
        return self._wish.readings(self.layers)

    def to_array(
        self, *, verbose: int = 0, like: NDArray[Any] | None = None
    ) -> Extracted:
        """Send every row through the model, into one array, of rows `like` these."""
        if like is not None:
            check_fits((self.n_samples, *like.shape[1:]), like.dtype)
        sink = ArraySink(self.n_samples, self._wish.dtype)
        bad = self._run(sink, verbose)
        if sink.array is None:
            raise _all_bad(bad, self._rows)
        self._set_bad(sink, bad)
        return Extracted(sink.array, sink.widths, self.layers)

    def of_first_row(self) -> Extracted:
        """Send one row through the model: the first that is not bad."""
        last: Exception | None = None
        rows = self._rows.which_may_run()
        for row in range(len(self._rows)) if rows is None else rows:
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
        self._extract(feed, sink, lambda _: None)
        assert sink.array is not None  # noqa: S101 - `feed` is not empty
        return Extracted(sink.array[:0].copy(), sink.widths, self.layers)

    def _run(self, sink: ArraySink, verbose: int) -> list[BadRow]:
        """Send what is not known yet through the model."""
        which = self._rows.which_may_run()
        label = type(self._estimator).__name__
        with progress(self._rows.n_samples, label=label, verbose=verbose) as advance:
            if which is not None and not len(which):
                return []
            feed = make_feed(self._rows, self._estimator, self._loaded, which)
            sink.expect(origin_of(self._rows, which))
            return self._extract(feed, sink, advance)

    def _extract(
        self, feed: Feed, sink: ArraySink, advance: Callable[[int], object]
    ) -> list[BadRow]:
        module, how = self._loaded.module, self._wish.how
        return extract(module, feed, self._readings, sink, how=how, advance=advance)

    def _set_bad(self, sink: ArraySink, bad: Sequence[BadRow]) -> None:
        """Make bad rows NaN, and say which they are."""
        places = [self._rows.bad, *(as_indices(one.places) for one in bad)]
        rows = np.unique(np.concatenate(places))
        if len(rows):
            sink.fill(rows, np.nan)
            reason = f" ({bad[0].error})" if bad else ""
            msg = (
                f"{describe_rows(rows)} of `X` could not be used, and are NaN{reason}."
            )
            warnings.warn(msg, BadRowWarning, stacklevel=_CALLER)


def _all_bad(bad: Sequence[BadRow], rows: CheckedRows) -> Exception:
    if bad:
        return bad[0].error
    msg = f"`X` must hold a row that can be used, but none of its {rows.n_samples} can."
    return ValueError(msg)
