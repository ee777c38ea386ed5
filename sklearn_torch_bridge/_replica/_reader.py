"""Read vectors off a forward pass, while it is under way."""

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
    """What is read off each forward pass: one layer ("" is the model's output)."""

    layer: str = ""
    output: Selector = None
    pool: Pool | None = None
    needs_vector: bool = False


class ReadError(Exception):
    """Carries our own error, in reading a layer, through the model's forward."""

    def __init__(self, reason: Exception, layer: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.layer = layer


class Reader:
    """Turns what the layers return into one vector a row, as it comes.

    Pooling at once keeps memory small, and keeps values from a later layer that works
    in place.
    """

    def __init__(self, readings: tuple[Reading, ...]) -> None:
        self._readings = readings
        self._places = range(len(readings))
        self._of_layer: dict[str, list[tuple[int, Reading]]] = {}
        for place, reading in enumerate(readings):
            self._of_layer.setdefault(reading.layer, []).append((place, reading))
        (first, *others) = readings
        # Where every pooling we have a name for would hand on a vector as it is.
        by_name = first.pool is None or first.pool in POOLINGS.values()
        self._takes_vectors = by_name and first.output is None and not others
        self.begin(None, 0)

    def begin(self, mask: torch.Tensor | None, n_rows: int) -> None:
        """Expect the values of one batch, and none of another."""
        self._found: dict[int, torch.Tensor] = {}
        self._mask = mask
        self._n_rows = n_rows

    def read(self, layer: str, value: Any) -> None:
        """Take what `layer` returned; "" is the model's output."""
        if (
            self._takes_vectors
            and type(value) is torch.Tensor
            and value.ndim == _TWO_AXES
            and not value.is_nested
            and value.shape[0] == self._n_rows
        ):
            self._found[0] = value
            return
        for place, reading in self._of_layer[layer]:
            try:
                self._found[place] = self._read(reading, value)
            except Exception as error:
                raise ReadError(error, layer) from error

    def take(self, n_rows: int) -> list[torch.Tensor]:
        """Hand over what was read of the first rows, in the order asked for."""
        found, self._found, self._mask = self._found, {}, None
        pieces = [*map(found.__getitem__, self._places)]
        if self._n_rows == n_rows:
            return pieces
        return [piece[:n_rows] for piece in pieces]

    def _read(self, reading: Reading, value: Any) -> torch.Tensor:
        hidden = select_output(value, reading.output)
        _check_tensor(hidden)
        mask = self._mask
        if hidden.is_nested:
            hidden, mask = _padded(hidden)
        pooled = hidden if reading.pool is None else reading.pool(hidden, mask)
        if type(pooled) is not torch.Tensor:
            _check_tensor(pooled)
        if pooled.shape[:1] != (self._n_rows,) or pooled.ndim != _TWO_AXES:
            pooled = self._check_rows(pooled, hidden, reading)
        if len(self._readings) > 1 and _shares_memory(pooled, hidden):
            return pooled.clone()  # a later layer may work in place
        return pooled

    def _check_rows(
        self, pooled: torch.Tensor, hidden: torch.Tensor, reading: Reading
    ) -> torch.Tensor:
        """Make numbers a column; refuse what is not one vector per row."""
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
    """Give rows of several lengths as one tensor, with the mask of what is real.

    Inside `torch.nn.TransformerEncoder` rows with padding are such tensors.
    """
    rows = nested.unbind()
    lengths = torch.tensor([len(row) for row in rows], device=nested.device)
    padded = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    return padded, torch.arange(padded.shape[1], device=nested.device) < lengths[
        :, None
    ]


def _shares_memory(one: torch.Tensor, other: torch.Tensor) -> bool:
    ours, theirs = one.untyped_storage(), other.untyped_storage()
    return ours.data_ptr() == theirs.data_ptr()
