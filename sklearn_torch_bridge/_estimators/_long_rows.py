"""Rows that are longer than they may be: cut with one warning, refused, or made NaN."""

import sys
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sklearn_torch_bridge._errors import TruncationWarning
from sklearn_torch_bridge._known import limit_of, note_of, read_limit, read_note
from sklearn_torch_bridge._results import ArraySink
from sklearn_torch_bridge._row_numbers import as_indices, describe_rows
from sklearn_torch_bridge._rows import CheckedRows, Feed
from sklearn_torch_bridge._run import BadRow
from sklearn_torch_bridge._types import Indices, Rows
from sklearn_torch_bridge.models import Maximum

__all__ = ["LongRows", "RowTooLongError", "notes_of", "setting_of", "warn_of_cuts"]

_SELECTION = "sklearn.model_selection."
_TRIES = ("_fit_and_score", "_fit_and_predict")
_RUN = "parallel"  # the name of what each search, and each cross-validation, runs by
_NOT_THE_CALLER = ("sklearn_torch_bridge", "sklearn", "joblib", "contextlib")
Setting = Callable[[], Hashable]
_SAID: set[Hashable] = set()  # settings that were warned of as they were tried
_SAID_IN: WeakKeyDictionary[Any, set[Hashable]] = WeakKeyDictionary()  # by the run


class RowTooLongError(ValueError):
    """A row is longer than it may be, with ``too_long="raise"``."""


class LongRows:
    """The rows of a call that are longer than they may be, and what becomes of them.

    It is heard of those in a feed before they run, of cached ones when they are found,
    and of those in a file from its marks. With ``too_long="raise"``, which `refuses`,
    none of them is run; if it `forgives`, they become NaN.
    """

    def __init__(
        self, rows: CheckedRows, too_long: Any, *, forgives: bool, setting: Setting
    ) -> None:
        self.lengths = np.zeros(rows.n_samples, np.int64)  # of `X`; 0: not too long
        self.maximum: Maximum | None = None
        self._before = self.lengths
        self.refuses = too_long == "raise"
        self.setting = setting
        # With windows too: of rows that are none of theirs.
        self._warns = too_long not in ("cut", "raise")
        self.strictness = {"warn": 0, "raise": 2}.get(too_long, 1)
        self._forgives = forgives

    def hear_of_file(self, sink: ArraySink) -> None:
        """Take what a file has noted of its finished rows, and what it is to note."""
        lengths, limit = sink.cuts()
        maximum = read_limit(limit)  # None where the file is damaged there
        if lengths is not None and maximum is not None:
            self._before, self.maximum = lengths, maximum
            self.restart()

    def restart(self) -> None:
        """Forget what was heard, but of a file."""
        self.lengths = self._before.copy()

    def hear_of_cached(
        self,
        rows: CheckedRows,
        found: Indices,
        pieces: list[Any],
        notes: Mapping[int, str],
    ) -> tuple[Indices, list[Any]]:
        """Take the notes on values found in a cache; return those that may be used."""
        known = {row: read for row, note in notes.items() if (read := read_note(note))}
        if not known:
            return found, pieces
        cut = [*known]
        lengths = [length for length, _ in known.values()]
        self.maximum = next(iter(known.values()))[1]
        self._add(rows, found[cut], np.array(lengths))
        if not self.refuses:
            return found, pieces
        usable = np.delete(np.arange(len(found)), cut)
        return found[usable], [_some(piece, usable) for piece in pieces]

    def hear_of_feed(
        self, rows: CheckedRows, which: Indices, feed: Feed
    ) -> NDArray[np.bool_] | None:
        """Take the lengths of a feed of these values; return which may run.

        None are all.
        """
        full, maximum = feed.full_lengths, feed.maximum
        if full is None or maximum is None:
            return None
        is_long = full > maximum.n
        if not is_long.any():
            return None
        self.maximum = maximum
        self._add(rows, which[is_long], full[is_long])
        return ~is_long if self.refuses else None

    def _add(
        self, rows: CheckedRows, values: Indices, lengths: NDArray[np.int64]
    ) -> None:
        own = np.zeros(len(rows), np.int64)
        own[values] = lengths
        if rows.origin is not None:
            own = np.where(rows.origin < 0, 0, own[rows.origin])
        np.maximum(self.lengths, own, out=self.lengths)

    def note_in(self, sink: ArraySink | None) -> None:
        """Have a file note how long the rows were that are cut."""
        if sink is not None and self.maximum is not None:
            sink.note_cuts(self.lengths, limit_of(self.maximum))

    def refused(self, names: Indices | None = None) -> list[BadRow]:
        """Return the rows that became NaN; raise for the first where that is asked."""
        if not self.refuses or self.maximum is None or not self.lengths.any():
            return []
        rows = np.flatnonzero(self.lengths)
        error = self._error(rows[0], names)
        if not self._forgives:
            raise error
        return [BadRow(rows, error)]

    def _error(self, row: int, names: Indices | None) -> Exception:
        maximum, length = self.maximum, self.lengths[row]
        assert maximum is not None  # noqa: S101 - of a row that is too long
        name = row if names is None else names[row]
        msg = (
            f"row {name} of `X` has {length} {maximum.unit}, and may have at most "
            f"{maximum}. Shorten it; or cut such rows with `too_long`='warn' or 'cut', "
            "read them whole with 'windows', or make them NaN with `on_error`='nan'."
        )
        return RowTooLongError(msg)

    def mute(self) -> None:
        """Say nothing of rows that were cut."""
        self._warns = False

    def is_to_be_said(self) -> bool:
        """Return whether some rows were cut, and the caller wants to know."""
        heard = self.maximum is not None  # of the most calls nothing is to be said
        return self._warns and heard and bool(self.lengths.any())

    @property
    def largest_share(self) -> float:
        """The largest share that was lost of a row."""
        assert self.maximum is not None  # noqa: S101 - asked where rows were cut
        return 1 - self.maximum.n / int(self.lengths.max())

    def message(self, names: Indices | None) -> str:
        """Return what the caller is told."""
        maximum = self.maximum
        assert maximum is not None  # noqa: S101 - asked where rows were cut
        rows = np.flatnonzero(self.lengths)
        worst = int(np.argmax(self.lengths))
        named = rows if names is None else names[rows]
        name = worst if names is None else names[worst]
        were = "was" if len(rows) == 1 else "were"
        return (
            f"{describe_rows(named)} of `X` {were} cut at {maximum}: row {name} lost "
            f"{_percent(self.largest_share)} of its {self.lengths[worst]} "
            f"{maximum.unit}. `too_long`='windows' reads such rows whole, 'cut' says "
            "nothing of them, and 'raise' makes them an error."
        )


def _some(piece: Any, which: Indices) -> Any:
    """Return some rows of a piece, which may be a list of arrays."""
    return [piece[row] for row in which] if isinstance(piece, list) else piece[which]


def notes_of(feed: Feed, rows: Rows) -> Sequence[str]:
    """Return the notes for a cache on rows of a feed, of which some were cut."""
    full, maximum = feed.full_lengths, feed.maximum
    if full is None or maximum is None or full.max() <= maximum.n:
        return ()
    return [note_of(int(length), maximum) for length in full[as_indices(rows)]]


def warn_of_cuts(heard: Sequence[LongRows], names: Indices | None = None) -> None:
    """Warn once of all rows of a call that were cut; in a search once a setting.

    Of several settings the one that lost the largest share is told. `names` are the
    numbers of the rows in the caller's `X`.
    """
    told = [one for one in heard if one.is_to_be_said()]
    if not told:
        return
    said = _said_in_search()
    if said is not None:
        told = [one for one in told if one.setting() not in said]
        said.update(one.setting() for one in told)
        if not told:
            return
    worst = max(told, key=lambda one: one.largest_share)
    msg = worst.message(names)
    if len(told) > 1:
        msg = f"In {len(told)} settings rows were cut; in one of them {msg}"
    warnings.warn(msg, TruncationWarning, stacklevel=_caller_level())


def setting_of(*values: Any) -> Hashable:
    """Return what is equal for equal settings, also of copies in another process."""
    return tuple(map(_key_of, values))


def _key_of(value: Any) -> Hashable:
    if isinstance(value, (str, int, float, type(None))):
        return value
    if isinstance(value, (list, tuple)):
        return (type(value).__name__, *map(_key_of, value))
    kind = getattr(value, "__qualname__", type(value).__qualname__)
    if isinstance(value, nn.Module):
        some = [*value.parameters()][-1:]
        values = [one.detach().reshape(-1)[:4].tolist() for one in some]
        return (kind, *map(tuple, values))
    return (kind, str(getattr(value, "model_max_length", "")))


def _percent(share: float) -> str:
    """Return a share for a reader, who is never told of none.

    >>> _percent(0.584), _percent(0.002), _percent(0.999)
    ('58 %', 'under 1 %', 'over 99 %')
    """
    percent = round(100 * share)
    if share < 0.01:  # noqa: PLR2004 - 1 %
        return "under 1 %"
    return "over 99 %" if share > 0.99 else f"{percent} %"  # noqa: PLR2004 - 99 %


def _frames() -> Iterator[FrameType]:
    """Yield the calls under way, the innermost first."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - documented
    while frame is not None:
        yield frame
        frame = frame.f_back


def _said_in_search() -> set[Hashable] | None:
    """Return which settings a search has warned of; None where none is under way.

    Those are of one run of the outermost search or cross-validation, or in one of its
    processes of whatever is tried there.
    """
    said = None
    for frame in _frames():
        if str(frame.f_globals.get("__name__")).startswith(_SELECTION):
            if frame.f_code.co_name in _TRIES:
                said = _SAID
            elif _RUN in frame.f_locals:
                said = _SAID_IN.setdefault(frame.f_locals[_RUN], set())
    return said


def _caller_level() -> int:
    """Return how far above its caller the code of the user is."""
    for level, frame in enumerate(_frames()):
        module = str(frame.f_globals.get("__name__"))
        if module.partition(".")[0] not in _NOT_THE_CALLER:
            return level
    return 1
