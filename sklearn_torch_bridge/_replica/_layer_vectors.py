"""One vector for each row of what layers return, taken during the forward pass."""

from dataclasses import dataclass
from typing import Any

import torch

from sklearn_torch_bridge._convert import select_output
from sklearn_torch_bridge._types import Pool, Selector
from sklearn_torch_bridge.pooling import POOLINGS

__all__ = ["ReadError", "Reader", "Reading"]

_TWO_AXES = 2


@dataclass(frozen=True)
class Reading:
    """What to take of each forward pass: a layer ("" is the model's output), pooled."""

    layer: str = ""
    output: Selector = None
    pool: Pool | None = None
    needs_vector: bool = False


@dataclass(eq=False)
class ReadError(Exception):
    """Carries an error of ours, in reading a layer, through the model's forward."""

    reason: Exception
    layer: str


class Reader:
    """Reduces what layers return to one vector a row, as soon as they return.

    Pooling at once keeps memory small, and keeps values from a later layer that works
    in place.
    """

    def __init__(self, readings: tuple[Reading, ...]) -> None:
        self._indices = range(len(readings))
        self._of_layer: dict[str, list[tuple[int, Reading]]] = {}
        for index, reading in enumerate(readings):
            self._of_layer.setdefault(reading.layer, []).append((index, reading))
        first = readings[0]
        # Every pooling that has a name returns vectors as they are.
        has_name = first.pool is None or first.pool in POOLINGS.values()
        self._takes_vectors = has_name and first.output is None and len(readings) == 1
        self.begin(None, 0)

    def begin(self, mask: torch.Tensor | None, n_rows: int) -> None:
        """Begin a batch, and drop what is left of another."""
        self._found: dict[int, torch.Tensor] = {}
        self._mask = mask
        self._n_rows = n_rows

    def read(self, layer: str, value: Any) -> None:
        """Keep the vectors of what `layer` returned; "" is the model's output."""
        if (
            self._takes_vectors
            and type(value) is torch.Tensor
            and value.ndim == _TWO_AXES
            and not value.is_nested
            and value.shape[0] == self._n_rows
        ):
            self._found[0] = value
            return
        for index, reading in self._of_layer[layer]:
            try:
                self._found[index] = self._read(reading, value)
            except Exception as error:
                raise ReadError(error, layer) from error

    def take(self, n_rows: int) -> list[torch.Tensor]:
        """Return the vectors of the first rows, in the order of the readings."""
        found, self._found, self._mask = self._found, {}, None
        pieces = [*map(found.__getitem__, self._indices)]
        is_whole = self._n_rows == n_rows
        return pieces if is_whole else [piece[:n_rows] for piece in pieces]

    def _read(self, reading: Reading, value: Any) -> torch.Tensor:
        hidden = select_output(value, reading.output)
        _check_tensor(hidden)
        mask = self._mask
        if hidden.is_nested:
            hidden, mask = _padded(hidden)
        pooled = hidden if reading.pool is None else reading.pool(hidden, mask)
        _check_tensor(pooled)
        if pooled.shape[:1] != (self._n_rows,) or pooled.ndim != _TWO_AXES:
            pooled = self._check_rows(pooled, hidden, reading)
        if len(self._indices) > 1:  # a later layer may work in place
            ours, theirs = pooled.untyped_storage(), hidden.untyped_storage()
            return pooled.clone() if ours.data_ptr() == theirs.data_ptr() else pooled
        return pooled

    def _check_rows(
        self, pooled: torch.Tensor, hidden: torch.Tensor, reading: Reading
    ) -> torch.Tensor:
        """Return numbers as a column; refuse what is not one vector per row."""
        if pooled.ndim == 0 or pooled.shape[0] != self._n_rows:
            msg = (
                f"the model must return one result per row, got shape "
                f"{tuple(hidden.shape)} for {self._n_rows} rows. Where the rows are on "
                "another axis, move them to the first (`batch_first=True`, or a "
                "callable `pooling`)."
            )
            raise ValueError(msg)
        if pooled.ndim == 1:
            return pooled.unsqueeze(1)
        if reading.needs_vector:
            msg = (
                "`pooling` must leave one vector per row, got shape "
                f"{tuple(pooled.shape)}. Take `pooling`='mean', 'flatten', or 'gap'."
            )
            raise ValueError(msg)
        return pooled


def _check_tensor(value: Any) -> None:
    if not isinstance(value, torch.Tensor):
        msg = (
            f"what is read off the model must be a tensor, got {type(value).__name__}. "
            "Choose a tensor with `output`, or tap another `layer`."
        )
        raise TypeError(msg)


def _padded(nested: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad nested rows, as of `torch.nn.TransformerEncoder`; return their mask too."""
    rows = list(nested.unbind())
    lengths = torch.tensor([[len(row)] for row in rows], device=nested.device)
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return padded, torch.arange(padded.shape[1], device=nested.device) < lengths
