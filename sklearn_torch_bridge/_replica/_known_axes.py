"""What was found of axes: in this run, and for a model where that cannot mix rows."""

from collections.abc import Sequence
from typing import Any

from sklearn_torch_bridge._replica._rows_in_values import following_axes
from sklearn_torch_bridge._replica._tokens_in_values import ONE_LENGTH, changed_axes

__all__ = ["Kept", "KnownAxes"]

Kept = dict[object, Any]
"""What is kept of a model beyond a run, to be read and added to."""


class KnownAxes:
    """The axes of rows and of channels, by `place`: the layer, its output, and rank.

    Where shapes are no help, the rows' axis is found anew in each run, since a model
    may have changed: were it out of date, rows would be mixed. What is kept: the axis
    of a single row, that of channels, and that the first was seen to follow the rows.
    """

    def __init__(self, kept: Kept) -> None:
        self._rows: dict[object, int] = {}
        self._plain: dict[object, tuple[Sequence[int], int]] = {}
        self._kept = kept

    def see(self, place: object, shape: Sequence[int], n_rows: int) -> None:
        """Keep the shape of a batch that leaves no doubt, for one that does."""
        self._plain[place] = shape, n_rows

    def is_first(self, place: object) -> bool:
        """Return whether the first axis was seen to follow the number of rows."""
        return ("first", place) in self._kept

    def keep_first(self, place: object) -> None:
        """Keep that the first axis follows the number of rows."""
        self._kept["first", place] = True

    def rows(self, place: object, shape: Sequence[int], n_rows: int) -> int | None:
        """Return the axis of the rows; None where it is not known."""
        axis = self._rows.get(place)
        if axis is None and place in self._plain:
            axes = following_axes(shape, n_rows, *self._plain[place])
            axis = axes[0] if len(axes) == 1 else None
        if axis is None and n_rows == 1:
            axis = self._kept.get(("rows", place))
        return axis

    def keep_rows(self, place: object, n_rows: int, axis: int) -> None:
        """Keep the axis of the rows of a batch."""
        self._rows[place] = axis
        if n_rows == 1:
            self._kept["rows", place] = axis

    def see_tokens(self, place: object, shape: Sequence[int], n_tokens: int) -> None:
        """Look at a value, rows first, until two lengths show where its tokens are."""
        if ("tokens", place) in self._kept:
            return
        before, n_before = self._kept.setdefault(
            ("length", place), (tuple(shape), n_tokens)
        )
        axes = None if n_before == n_tokens else changed_axes(shape, before)
        if axes is not None:
            self._kept["tokens", place] = axes

    def tokens(self, place: object, n_tokens: int) -> tuple[int, ...] | None:
        """Return the axes that follow the number of tokens; None if it is not known."""
        axes: tuple[int, ...] | None = self._kept.get(("tokens", place))
        return self._kept.get(("tokens", place, n_tokens)) if axes is None else axes

    def keep_tokens(self, place: object, axes: tuple[int, ...]) -> None:
        """Keep the axes that follow the number of tokens, if any were seen to."""
        if axes:
            self._kept.setdefault(("tokens", place), axes)

    def keep_one_length(self, place: object, n_tokens: int) -> None:
        """Keep that the model takes no other number of tokens than this."""
        self._kept["tokens", place, n_tokens] = ONE_LENGTH

    def channels(self, place: object, shape: Sequence[int]) -> int | None:
        """Return the axis of channels, the rows being first; None if it is unknown."""
        sizes = tuple(shape[1:])
        axis: int | None = self._kept.get(("channels", place, sizes))
        if axis is not None:
            return axis
        axis, width = self._kept.get(("channels", place), (None, None))
        is_fit = axis is not None and shape[axis] == width
        return axis if is_fit and sizes.count(shape[axis]) == 1 else None

    def keep_channels(self, place: object, shape: Sequence[int], axis: int) -> None:
        """Keep the axis of channels, for any sizes that no other axis has."""
        sizes = tuple(shape[1:])
        if sizes.count(shape[axis]) == 1:
            self._kept["channels", place] = axis, shape[axis]
        else:
            self._kept["channels", place, sizes] = axis
