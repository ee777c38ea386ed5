"""One vector for each row of what layers return, taken during the forward pass."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from sklearn_torch_bridge._convert import select_output
from sklearn_torch_bridge._replica._channels_in_values import Call
from sklearn_torch_bridge._replica._known_axes import Kept, KnownAxes
from sklearn_torch_bridge._replica._own_tokens import OwnTokens
from sklearn_torch_bridge._replica._readings import (
    Reading,
    carried,
    check_tensor,
    pooled_by,
    why_missing,
)
from sklearn_torch_bridge._replica._rows_flow import RowsFlow
from sklearn_torch_bridge._replica._rows_in_values import (
    AS_IT_IS,
    Look,
    channels_of_looks,
    no_rows_axis,
    plain_axis,
    rows_axis,
    rows_first,
)
from sklearn_torch_bridge._replica._tokens_in_values import (
    ONE_LENGTH,
    changed_axes,
    needs_tokens,
    padded,
    with_tokens,
    without_first,
)
from sklearn_torch_bridge._tensor_bytes import check_storage
from sklearn_torch_bridge._types import Piece, Tokens
from sklearn_torch_bridge.pooling import POOLINGS

__all__ = ["Looks", "Reader"]

_TWO_AXES = 2
_MAP_AXES = 4
_OVER_SPACE = frozenset(
    POOLINGS[name] for name in ("auto", "mean", "max", "gap", "gmp")
)


Looks = dict[int, Look]
"""What came of another batch, by the number of the reading."""


@dataclass(frozen=True)
class _Waiting:
    """What a layer returned, until its axes are found; the rows' may be known."""

    hidden: torch.Tensor
    rows: int | None
    channels: int | None


class _Axes(NamedTuple):
    """Where a value has its rows; and, with them first, its channels and tokens."""

    rows: int
    channels: int
    tokens: tuple[int, ...]


class Reader:
    """Reduces what layers return to one vector a row, as soon as they return.

    Pooling at once keeps memory small, and keeps values from a later layer that works
    in place. A value whose shape leaves open which axis is the rows', or the channels'
    of a map, waits until the same layers were looked at in another batch; see `settle`.
    What is found of a module is added to what is `kept` of it; without that, a first
    axis as long as there are rows is taken for theirs.
    """

    def __init__(
        self,
        readings: tuple[Reading, ...],
        kept: Kept | None = None,
    ) -> None:
        self._readings = readings
        self._indices = range(len(readings))
        self._of_layer: dict[str, list[int]] = {}
        for index, reading in enumerate(readings):
            self._of_layer.setdefault(reading.layer, []).append(index)
        first = readings[0]
        # Every pooling that has a name returns vectors as they are.
        is_plain = first.output is None and not (first.has_own_pool or first.missing)
        is_plain = is_plain and first.hear is None
        self._takes_vectors = is_plain and len(readings) == 1
        self._own_tokens = {one: OwnTokens() for one in readings if one.pool is None}
        self._known = KnownAxes({} if kept is None else kept)
        self._trusts_shapes = kept is None
        self._place_of_vectors = (first.layer, first.output, _TWO_AXES)
        self.pads = True  # rows that are shorter than others
        self.mask_alone: Callable[[int], torch.Tensor | None] = lambda _: None
        self.flow_of: Callable[[], RowsFlow | None] = lambda: None
        self._keep_look: Callable[[int, torch.Tensor], None] | None = None
        self._last_vectors: torch.Size | None = None  # of a batch that left no doubt
        self._rows_are_first = False  # as was found of vectors
        self.begin(None, 0)

    def begin(self, mask: torch.Tensor | None, n_rows: int, n_prompt: int = 0) -> None:
        """Begin a batch, and drop what is left of another.

        Poolings leave out the first `n_prompt` tokens that `mask` keeps in a row.
        """
        self._found: dict[int, Piece] = {}
        self.waiting: dict[int, _Waiting] = {}
        self._mask = mask
        self._mask_of_pools = mask if mask is None else without_first(mask, n_prompt)
        self._n_rows = n_rows

    def read(self, layer: str, value: Any) -> None:
        """Keep the vectors of what `layer` returned; "" is the model's output."""
        if (
            self._takes_vectors
            and type(value) is torch.Tensor
            and value.ndim == _TWO_AXES
            and not value.is_nested
            and value.shape[0] == self._n_rows
            and self._is_known(self._place_of_vectors)
            and (value.shape[1] != self._n_rows or self._rows_are_first)
            and self._keep_look is None
            and (
                self._mask is None
                or (not self._own_tokens and value.shape[1] != self._mask.shape[1])
            )
        ):
            self._found[0] = value
            self._last_vectors = value.shape
            return
        for index in self._of_layer[layer]:
            try:
                self._read(index, value)
            except Exception as error:
                raise carried(error, layer) from error

    def take(self, n_rows: int) -> list[Piece]:
        """Return the vectors of the first rows, in the order of the readings."""
        found, self._found = self._found, {}
        self._mask = self._mask_of_pools = None
        pieces = [*map(found.__getitem__, self._indices)]
        is_whole = self._n_rows == n_rows
        return pieces if is_whole else [piece[:n_rows] for piece in pieces]

    @property
    def seeks_rows(self) -> bool:
        """Whether something waits of which the rows are to be found."""
        return any(one.rows is None for one in self.waiting.values())

    @property
    def seeks_tokens_alone(self) -> bool:
        """Whether of all that waits nothing but the tokens are to be found."""
        known = (one.rows is not None and one.channels for one in self.waiting.values())
        return all(known)

    @contextmanager
    def looking(
        self, mask: torch.Tensor | None, n_rows: int, calls: Sequence[Call]
    ) -> Iterator[Looks]:
        """Keep what layers return in this block as it is, apart from the batch.

        `calls` are those of other modules, which grow meanwhile.
        """
        looks: Looks = {}

        def keep(index: int, hidden: torch.Tensor) -> None:
            own = self._lasting(hidden, hidden)
            looks[index] = Look(n_rows, own, mask, tuple(calls))

        self._keep_look = keep
        try:
            yield looks
        finally:
            self._keep_look = None

    def settle(
        self,
        looks: Looks,
        stretch: Callable[[], Sequence[Looks]],
        lengths: Callable[[], Looks] = dict,
    ) -> None:
        """Find the axes of what waits, by looks at the same layers.

        `stretch` looks at them with longer inputs, `lengths` with fewer or more tokens.
        """
        waiting, self.waiting = self.waiting, {}
        for index, one in waiting.items():
            try:
                axes = self._settle(index, one, looks.get(index), stretch, lengths)
                self._keep(index, one.hidden, axes)
            except Exception as error:
                raise carried(error, self._readings[index].layer) from error

    def _read(self, index: int, value: Any) -> None:
        """Keep a vector a row, or the value itself, if its axes are to be found."""
        reading = self._readings[index]
        hidden = select_output(value, reading.output)
        check_tensor(hidden)
        if hidden.layout is torch.strided and not hidden.is_nested:
            check_storage(hidden)
        if reading.missing and bool(hidden.isnan().any()):
            raise ValueError(why_missing(reading.missing))
        if self._keep_look is not None:
            self._keep_look(index, hidden)
        elif hidden.is_nested:
            self._found[index] = self._piece(reading, *padded(hidden))
        else:
            rows = self._rows_axis(reading, hidden)
            channels = self._channels_axis(reading, hidden, rows)
            tokens = self._tokens_axes(reading, hidden, rows)
            if rows is None or channels is None or tokens is None:
                own = self._lasting(hidden, hidden)
                self.waiting[index] = _Waiting(own, rows, channels)
            else:
                self._keep(index, hidden, _Axes(rows, channels, tokens))

    def _rows_axis(self, reading: Reading, hidden: torch.Tensor) -> int | None:
        """Return the axis if the shape says it, or an earlier batch; None in doubt."""
        shape, n_rows, place = hidden.shape, self._n_rows, _place(reading, hidden)
        axis = plain_axis(shape, n_rows)
        if axis is not None:
            if not self._is_first(place, hidden):
                return None
            self._known.see(place, shape, n_rows)
            return axis
        if self._last_vectors is not None and len(shape) == _TWO_AXES:
            self._known.see(place, self._last_vectors, self._last_vectors[0])
        axis = self._known.rows(place, shape, n_rows)
        if axis is None and reading.has_own_pool and n_rows not in shape:
            return AS_IT_IS
        is_fit = axis is not None and (axis == AS_IT_IS or shape[axis] == n_rows)
        return axis if is_fit else None

    def _is_known(self, place: object) -> bool:
        """Return whether no other axis can have the rows: a single one is not mixed."""
        is_single = self._n_rows == 1
        return is_single or self._trusts_shapes or self._known.is_first(place)

    def _is_first(self, place: object, hidden: torch.Tensor) -> bool:
        """Return whether the first axis follows the rows, as far as that is known."""
        if self._is_known(place):
            return True
        flow = self.flow_of()
        other = None if flow is None else flow.shape_of(hidden)
        if flow is None or other is None or other[:1] != (flow.n_others,):
            return False
        self._known.keep_first(place)
        return True

    def _channels_axis(
        self, reading: Reading, hidden: torch.Tensor, rows: int | None
    ) -> int | None:
        """Return the axis, with the rows first, or None in doubt."""
        if hidden.ndim < _MAP_AXES or reading.pool not in _OVER_SPACE:
            return 1
        if rows is None:
            return None
        shape = rows_first(hidden, rows).shape
        return self._known.channels(_place(reading, hidden), shape)

    def _tokens_axes(
        self, reading: Reading, hidden: torch.Tensor, rows: int | None
    ) -> tuple[int, ...] | None:
        """Return the axes, with the rows first, or None in doubt."""
        if rows is None or rows == AS_IT_IS:
            return ()
        shape, mask = rows_first(hidden, rows).shape, self._mask
        if self._trusts_shapes or not needs_tokens(reading.pool, shape, mask):
            return ()
        assert mask is not None  # noqa: S101 - else it needs none
        place, n_tokens = _place(reading, hidden), mask.shape[1]
        self._known.see_tokens(place, shape, n_tokens)
        flow = self.flow_of()
        other = None if flow is None or rows else flow.shape_of(hidden)
        if other is not None:
            self._known.keep_tokens(place, changed_axes(shape, other) or ())
        return self._known.tokens(place, n_tokens)

    def _find_tokens(
        self, index: int, hidden: torch.Tensor, rows: int, lengths: Callable[[], Looks]
    ) -> tuple[int, ...]:
        """Return the axes, with the rows first, from a look with another length."""
        reading = self._readings[index]
        tokens = self._tokens_axes(reading, hidden, rows)
        if tokens is not None:
            return tokens
        look, place = lengths().get(index), _place(reading, hidden)
        if look is not None and look.mask is not None:
            shape = rows_first(look.value, rows).shape
            self._known.see_tokens(place, shape, look.mask.shape[1])
        tokens = self._tokens_axes(reading, hidden, rows)
        if tokens is None and self._mask is not None:
            self._known.keep_one_length(place, self._mask.shape[1])
        return ONE_LENGTH if tokens is None else tokens

    def _settle(
        self,
        index: int,
        one: _Waiting,
        look: Look | None,
        stretch: Callable[[], Sequence[Looks]],
        lengths: Callable[[], Looks],
    ) -> _Axes:
        """Return the axes of one value, and keep them in mind."""
        reading, n_rows, hidden = self._readings[index], self._n_rows, one.hidden
        rows, place = one.rows, _place(reading, hidden)
        if rows is None:
            rows = rows_axis(hidden.shape, n_rows, look)
            if rows is None and not reading.has_own_pool:
                raise no_rows_axis(hidden.shape, n_rows, look)
            rows = AS_IT_IS if rows is None else rows
            self._known.keep_rows(place, n_rows, rows)
            if rows == 0 and n_rows > 1:
                self._known.keep_first(place)
            self._rows_are_first = hidden.ndim == _TWO_AXES and rows == 0
        if look is not None and reading.has_own_pool:  # it might take tokens for rows
            pooled_by(reading, rows_first(look.value, rows), look.mask, look.n_rows)
        channels = self._channels_axis(reading, hidden, rows)
        if channels is None:
            channels = (
                1 if look is None else channels_of_looks(index, look, rows, stretch)
            )
            shape = rows_first(hidden, rows).shape
            self._known.keep_channels(place, shape, channels)
        tokens = self._find_tokens(index, hidden, rows, lengths)
        return _Axes(rows, channels, tokens)

    def _keep(self, index: int, hidden: torch.Tensor, axes: _Axes) -> None:
        """Keep the vectors of a value that has its rows and all else on these axes."""
        reading, channels = self._readings[index], axes.channels
        turned = rows_first(hidden, axes.rows)
        order = [0, channels, *(at for at in range(1, turned.ndim) if at != channels)]
        if channels != 1:
            turned = turned.permute(order)
        if self._mask is not None and axes.tokens:
            tokens = axes.tokens
            if tokens != ONE_LENGTH and channels != 1:
                tokens = tuple(map(order.index, tokens))
            turned = with_tokens(
                reading.pool, turned, self._mask, tokens, self._is_fixed
            )
        mask = self._mask if reading.pool is None else self._mask_of_pools
        piece = self._piece(reading, turned, mask)
        if isinstance(piece, Tokens):
            values = self._lasting(piece.values, hidden)
            self._found[index] = Tokens(values, piece.lengths)
        else:
            self._found[index] = self._lasting(piece, hidden)

    def _is_fixed(self) -> bool:
        """Return whether all rows have one length, or are padded to it also alone."""
        if self._mask is None or not self.pads:
            return not self.pads
        kept = self._mask.sum(1)
        shortest = int(kept.argmin())
        if int(kept[shortest]) == self._mask.shape[1]:
            return False
        alone = self.mask_alone(shortest)
        return alone is not None and not bool(alone.all())

    def _piece(
        self, reading: Reading, hidden: torch.Tensor, mask: torch.Tensor | None
    ) -> Piece:
        """Return one vector per row, or without a pooling the tokens of each."""
        if reading.hear is not None:
            reading.hear(hidden.ndim)
        if reading.pool is None and mask is not None and hidden.ndim > 1:
            tokens = self._own_tokens[reading](hidden, mask)
            if isinstance(tokens, Tokens):
                return tokens
        return pooled_by(reading, hidden, mask, self._n_rows)

    def _lasting(self, kept: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """Return what no later layer that works in place changes."""
        if len(self._indices) == 1 or kept.is_nested:
            return kept
        ours, theirs = kept.untyped_storage(), hidden.untyped_storage()
        return kept.clone() if ours.data_ptr() == theirs.data_ptr() else kept


def _place(reading: Reading, hidden: torch.Tensor) -> object:
    return reading.layer, reading.output, hidden.ndim
