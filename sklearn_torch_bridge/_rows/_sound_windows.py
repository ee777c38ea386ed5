"""Long sound in windows, each as long as its feature extractor takes."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sklearn_torch_bridge._convert import deep_fault
from sklearn_torch_bridge._errors import ConversionError, ForwardError
from sklearn_torch_bridge._results import Spans
from sklearn_torch_bridge._row_numbers import as_indices
from sklearn_torch_bridge._rows._base import Feed, FeedError, Receiver
from sklearn_torch_bridge._rows._windows import value_spans
from sklearn_torch_bridge._types import Indices, Inputs, Rows, UnevenBatchError
from sklearn_torch_bridge.models import Clip, Maximum, SoundRows, check_length

__all__ = ["SoundWindows", "sound_windows"]


def sound_windows(rows: Any, made: Any, receiver: Receiver) -> "SoundWindows | None":
    """Return windows of rows of sound; None of other rows, or where every row fits."""
    if receiver.windows is None or not isinstance(made, SoundRows):
        return None
    most = check_length(receiver.max_length, made.maximum, unit="values")
    if most is None:
        return None
    feed = SoundWindows(rows, made, most, receiver.windows.overlap)
    return None if len(feed) == len(rows) else feed


class SoundWindows(Feed):
    """Windows of clips, of which each is read once for neighbouring windows.

    A window has its weight once it was prepared: the positions that its mask keeps, or
    values where there is no mask.
    """

    def __init__(
        self, rows: Any, sound: SoundRows, maximum: Maximum, overlap: int
    ) -> None:
        lengths = sound.n_samples(rows)
        self.spans: Spans = value_spans(
            lengths, maximum.n, overlap, sound.positions_per_value
        )
        self.lengths = self.spans.stops - self.spans.starts if sound.even else None
        self.even = sound.even
        self._rows = rows
        self._sound = sound
        self.maximum = self._limit = maximum
        self._most = maximum.n
        self._overlap = overlap
        self._last: tuple[int, Clip] | None = None
        self._low_rates: dict[int, tuple[int, int]] = {}

    @property
    def padded_by(self) -> Any:
        """What pads windows: the extractor, where it brings all to one length."""
        return None if self.even else "the extractor"

    @property
    def low_rates(self) -> Mapping[int, tuple[int, int]]:
        """The rates of sound below the model's, of the windows prepared so far."""
        return self._low_rates

    def __len__(self) -> int:
        return len(self.spans)

    def subset(self, which: Indices) -> "SoundWindows":
        """Return windows of some of the rows."""
        rows = [self._rows[row] for row in which]
        return SoundWindows(rows, self._sound, self._limit, self._overlap)

    def batch(self, rows: Rows) -> Inputs:
        """Extract features of these windows together."""
        windows = as_indices(rows)
        parts = []
        for window in windows:
            try:
                part = self._part(int(window))
            except Exception as error:
                raise _failed(np.array([window]), error) from error
            parts.append(part)
            if part.rate < self._sound.rate:
                self._low_rates[int(window)] = part.rate, self._sound.rate
        try:
            made = self._sound.features(parts)
        except UnevenBatchError:
            raise
        except Exception as error:
            raise _failed(windows, error) from error
        if made.mask is not None:
            self.spans.weights[windows] = made.mask.sum(1).numpy()
        return made

    def _part(self, window: int) -> Clip:
        """Return the samples of one window; of the last what the row has left."""
        row, start = int(self.spans.rows[window]), self.spans.starts[window]
        is_last = window + 1 == self.spans.firsts[row] + self.spans.counts[row]
        clip = self._clip(row)
        samples = clip.samples[..., start : None if is_last else start + self._most]
        if not 0 < samples.shape[-1] <= self._most:
            n_said, n_found = self.spans.ends[row], clip.samples.shape[-1]
            msg = (
                f"a file must have as many values as its head says, {n_said}, got "
                f"{n_found}. Write it anew."
            )
            raise ValueError(msg)
        return Clip(samples.copy(), clip.rate)  # an extractor may write to it

    def _clip(self, row: int) -> Clip:
        """Return all of a row, which is kept until that of another is asked for."""
        last = self._last  # another thread may set it
        if last is None or last[0] != row:
            value = self._rows[row]
            if fault := deep_fault(value):
                msg = f"it {fault}. Load its values, or call .filled(value), first."
                raise ConversionError(msg)
            self._last = last = row, self._sound.clips([value])[0]
        return last[1]


def _failed(windows: Indices, error: Exception) -> FeedError:
    why = f"{type(error).__name__}: {error}"
    return FeedError(
        windows, lambda named: ForwardError(f"`preprocess` failed on {named}: {why}")
    )
