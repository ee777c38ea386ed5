"""Look again at layers whose rows are in doubt: with another number of rows."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn

from sklearn_torch_bridge._replica import Looks, Reader, replica, taps
from sklearn_torch_bridge._row_numbers import as_indices, count_rows
from sklearn_torch_bridge._rows import Feed
from sklearn_torch_bridge._run._inputs_on_device import on_device
from sklearn_torch_bridge._types import Inputs, Rows

__all__ = ["SecondLook", "axes_of_single_rows"]

_FEW, _OTHER = 2, 3  # rows; of one, a model that squeezes would drop the axis

_KNOWN: WeakKeyDictionary[nn.Module, dict[object, int]] = WeakKeyDictionary()
_LOCK = threading.Lock()


def axes_of_single_rows(module: nn.Module) -> dict[object, int]:
    """Return what was found in batches of one row of a model, to be added to.

    Only that is kept beyond a run: should it be out of date, no rows are mixed.
    """
    with _LOCK:
        return _KNOWN.setdefault(module, {})


@dataclass
class SecondLook:
    """Shows a reader in doubt what layers return for another number of rows.

    `own` is the replica that runs the batches, with `call`.
    """

    module: nn.Module
    own: nn.Module
    place: torch.device
    layers: tuple[str, ...]
    reader: Reader
    call: Callable[[Inputs], None]
    feed: Feed

    def at(self, rows: Rows) -> None:
        """Run the longest of `rows` a few times over, and let the reader settle.

        A model that takes no other number of rows than it had gets as many again.
        """
        n_rows = count_rows(rows)
        with self._runner() as run:
            looks = self._looks(run, rows, _OTHER if n_rows == _FEW else _FEW)
            if looks is None and n_rows > 1:
                looks = self._looks(run, rows, n_rows)
        self.reader.settle(looks or {})

    def _looks(
        self, run: Callable[[Inputs], None], rows: Rows, n_times: int
    ) -> Looks | None:
        """Return what comes of one row, several times; None if it cannot be run."""
        try:
            inputs = on_device(self._repeated(rows, n_times), self.place)
            with self.reader.looking(inputs.mask, n_times) as looks:
                run(inputs)
        except Exception:  # noqa: BLE001 - a model may take one number of rows alone
            return None
        return looks

    def _repeated(self, rows: Rows, n_times: int) -> Inputs:
        """Prepare the longest of these rows, `n_times` in one batch."""
        places, lengths = as_indices(rows), self.feed.lengths
        longest = 0 if lengths is None else int(lengths[places].argmax())
        return self.feed.batch(np.repeat(places[longest], n_times))

    @contextmanager
    def _runner(self) -> Iterator[Callable[[Inputs], None]]:
        """Yield what runs a replica for this alone; what has none runs itself."""
        if self.own is self.module:
            yield self.call
            return
        read = self.reader.read
        with (
            replica(self.module, self.place) as (another, _),
            taps(another, self.layers, read) as run,
        ):
            yield run
