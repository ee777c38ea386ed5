"""One vector for each row of what layers return, taken during the forward pass."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from sklearn_torch_bridge._convert import select_output
from sklearn_torch_bridge._replica._rows_in_values import (
    Look,
    RowCountError,
    no_rows_axis,
    plain_axis,
    rows_axis,
)
from sklearn_torch_bridge._tensor_bytes import check_storage
from sklearn_torch_bridge._types import Pool, Selector
from sklearn_torch_bridge.pooling import POOLINGS

__all__ = ["ReadError", "Reader", "Reading"]

_TWO_AXES = 2
_FIRST_OF_TWO = (0, _TWO_AXES)  # the first reading, and its number of axes
_AS_IT_IS = -1  # no axis is the rows', and a callable of the caller's makes vectors
_MOST_NAMES = 5


@dataclass(frozen=True)
class Reading:
    """What to take of each forward pass: a layer ("" is the model's output), pooled.

    Weights that are `missing` in the model's files are NaN, and so is what needs them.
    """

    layer: str = ""
    output: Selector = None
    pool: Pool | None = None
    needs_vector: bool = False
    missing: tuple[str, ...] = ()

    @property
    def has_own_pool(self) -> bool:
        """Whether vectors are made by a callable that is none of ours."""
        return self.pool is not None and self.pool not in POOLINGS.values()


Looks = dict[int, Look]
"""What came of another batch, by the number of the reading."""


@dataclass(eq=False)
class ReadError(Exception):
    """Carries an error of ours, in reading a layer, through the model's forward.

    With `of_batch` there was another number of results than of rows: one row alone
    might pass, and mean something else.
    """

    reason: Exception
    layer: str
    of_batch: bool = False


class Reader:
    """Reduces what layers return to one vector a row, as soon as they return.

    Pooling at once keeps memory small, and keeps values from a later layer that works
    in place. A value whose shape leaves open which axis is the rows' waits until the
    same layers were looked at with another number of rows; see `settle`.
    """

    def __init__(
        self,
        readings: tuple[Reading, ...],
        of_single_rows: dict[object, int] | None = None,
    ) -> None:
        self._readings = readings
        self._indices = range(len(readings))
        self._of_layer: dict[str, list[int]] = {}
        for index, reading in enumerate(readings):
            self._of_layer.setdefault(reading.layer, []).append(index)
        first = readings[0]
        # Every pooling that has a name returns vectors as they are.
        is_plain = first.output is None and not (first.has_own_pool or first.missing)
        self._takes_vectors = is_plain and len(readings) == 1
        self._axes: dict[tuple[int, int], int] = {}  # by reading and number of axes
        self._of_single_rows = {} if of_single_rows is None else of_single_rows
        self._looking: tuple[Looks, torch.Tensor | None, int] | None = None
        self.begin(None, 0)

    def begin(self, mask: torch.Tensor | None, n_rows: int) -> None:
        """Begin a batch, and drop what is left of another."""
        self._found: dict[int, torch.Tensor] = {}
        self.waiting: dict[int, torch.Tensor] = {}
        self._mask = mask
        self._n_rows = n_rows

    def read(self, layer: str, value: Any) -> None:
        """Keep the vectors of what `layer` returned; "" is the model's output."""
        if (
            self._takes_vectors
            and type(value) is torch.Tensor
            and value.ndim == _TWO_AXES
            and not value.is_nested
            and value.shape[0] == self._n_rows != value.shape[1]
            and self._looking is None
        ):
            self._found[0] = value
            if self._n_rows > 1:
                self._axes[_FIRST_OF_TWO] = 0
            return
        for index in self._of_layer[layer]:
            try:
                self._read(index, value)
            except Exception as error:
                raise _carried(error, layer) from error

    def take(self, n_rows: int) -> list[torch.Tensor]:
        """Return the vectors of the first rows, in the order of the readings."""
        found, self._found, self._mask = self._found, {}, None
        pieces = [*map(found.__getitem__, self._indices)]
        is_whole = self._n_rows == n_rows
        return pieces if is_whole else [piece[:n_rows] for piece in pieces]

    @contextmanager
    def looking(self, mask: torch.Tensor | None, n_rows: int) -> Iterator[Looks]:
        """Keep what layers return in this block as it is, apart from the batch."""
        looks: Looks = {}
        self._looking = (looks, mask, n_rows)
        try:
            yield looks
        finally:
            self._looking = None

    def settle(self, looks: Looks) -> None:
        """Find the rows in what waits, by looks at the same layers."""
        waiting, self.waiting = self.waiting, {}
        for index, hidden in waiting.items():
            try:
                self._settle(index, hidden, looks.get(index))
            except Exception as error:
                raise _carried(error, self._readings[index].layer) from error

    def _read(self, index: int, value: Any) -> None:
        """Keep a vector a row, or the value itself, if its rows are to be found."""
        reading = self._readings[index]
        hidden = select_output(value, reading.output)
        _check_tensor(hidden)
        if hidden.layout is torch.strided and not hidden.is_nested:
            check_storage(hidden)
        if reading.missing and bool(hidden.isnan().any()):
            raise ValueError(_why_missing(reading.missing))
        if self._looking is not None:
            looks, mask, n_rows = self._looking
            looks[index] = Look(n_rows, self._lasting(hidden, hidden), mask)
        elif hidden.is_nested:
            self._found[index] = self._pooled(reading, *_padded(hidden), self._n_rows)
        else:
            axis = self._rows_axis(index, hidden)
            if axis is None:
                self.waiting[index] = self._lasting(hidden, hidden)
            else:
                self._keep(index, hidden, axis)

    def _rows_axis(self, index: int, hidden: torch.Tensor) -> int | None:
        """Return the axis if the shape says it, or an earlier batch; None in doubt."""
        shape, n_rows, reading = hidden.shape, self._n_rows, self._readings[index]
        axis = plain_axis(shape, n_rows)
        if axis is None:
            axis = self._axes.get((index, hidden.ndim))
        elif n_rows > 1:
            self._axes[index, hidden.ndim] = axis
        if axis is None and n_rows == 1:
            axis = self._of_single_rows.get(_place(reading, hidden))
        if axis is None and reading.has_own_pool and n_rows not in shape:
            return _AS_IT_IS
        is_fit = axis is not None and (axis == _AS_IT_IS or shape[axis] == n_rows)
        return axis if is_fit else None

    def _settle(self, index: int, hidden: torch.Tensor, look: Look | None) -> None:
        """Find the rows' axis of one value, and keep its vectors."""
        reading, n_rows = self._readings[index], self._n_rows
        axis = rows_axis(hidden.shape, n_rows, look)
        if axis is None:
            if not reading.has_own_pool:
                raise no_rows_axis(hidden.shape, n_rows, look)
            axis = _AS_IT_IS
        if look is not None and reading.has_own_pool:  # it might take tokens for rows
            self._pooled(reading, _rows_first(look.value, axis), look.mask, look.n_rows)
        self._axes[index, hidden.ndim] = axis
        if n_rows == 1:
            self._of_single_rows[_place(reading, hidden)] = axis
        self._keep(index, hidden, axis)

    def _keep(self, index: int, hidden: torch.Tensor, axis: int) -> None:
        """Keep the vectors of a value that has its rows on an axis."""
        reading, rows_first = self._readings[index], _rows_first(hidden, axis)
        pooled = self._pooled(reading, rows_first, self._mask, self._n_rows)
        self._found[index] = self._lasting(pooled, hidden)

    def _lasting(self, kept: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """Return what no later layer that works in place changes."""
        if len(self._indices) == 1 or kept.is_nested:
            return kept
        ours, theirs = kept.untyped_storage(), hidden.untyped_storage()
        return kept.clone() if ours.data_ptr() == theirs.data_ptr() else kept

    def _pooled(
        self,
        reading: Reading,
        hidden: torch.Tensor,
        mask: torch.Tensor | None,
        n_rows: int,
    ) -> torch.Tensor:
        """Return one vector per row; numbers become a column."""
        pooled = hidden if reading.pool is None else reading.pool(hidden, mask)
        _check_tensor(pooled)
        if pooled.shape[:1] != (n_rows,):
            msg = (
                "`pooling` must return one vector per row, and gets the rows on the "
                f"first axis: got shape {tuple(pooled.shape)} for {n_rows} rows, of "
                f"{tuple(hidden.shape)}."
            )
            raise RowCountError(msg)
        if pooled.ndim == 1:
            return pooled.unsqueeze(1)
        if pooled.ndim != _TWO_AXES and reading.needs_vector:
            msg = (
                "`pooling` must leave one vector per row, got shape "
                f"{tuple(pooled.shape)}. Take `pooling`='mean', 'flatten', or 'gap'."
            )
            raise ValueError(msg)
        return pooled


def _carried(error: Exception, layer: str) -> ReadError:
    return ReadError(error, layer, of_batch=isinstance(error, RowCountError))


def _rows_first(hidden: torch.Tensor, axis: int) -> torch.Tensor:
    return hidden if axis in (0, _AS_IT_IS) else hidden.movedim(axis, 0)


def _place(reading: Reading, hidden: torch.Tensor) -> object:
    return reading.layer, reading.output, hidden.ndim


def _check_tensor(value: Any) -> None:
    if not isinstance(value, torch.Tensor):
        msg = (
            f"what is read off the model must be a tensor, got {type(value).__name__}. "
            "Choose a tensor with `output`, or tap another `layer`."
        )
        raise TypeError(msg)


def _why_missing(names: tuple[str, ...]) -> str:
    shown = ", ".join(map(repr, names[:_MOST_NAMES]))
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return (
        "`model` must have all weights that the value taken depends on, but its files "
        f"lack {shown}{more}, and it is NaN without. Complete the files, or take a "
        "`layer` or an `output` that needs none of them."
    )


def _padded(nested: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad nested rows, as of `torch.nn.TransformerEncoder`; return their mask too."""
    rows = list(nested.unbind())
    lengths = torch.tensor([[len(row)] for row in rows], device=nested.device)
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return padded, torch.arange(padded.shape[1], device=nested.device) < lengths
