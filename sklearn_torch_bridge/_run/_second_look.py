"""Look again at layers whose axes are in doubt, with other rows and other sizes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from sklearn_torch_bridge._replica import (
    Call,
    Looks,
    Reader,
    Replica,
    RunAgainError,
    calls_of,
    replica,
    taps,
)
from sklearn_torch_bridge._row_numbers import as_indices, count_rows
from sklearn_torch_bridge._rows import Feed
from sklearn_torch_bridge._run._inputs_on_device import on_device
from sklearn_torch_bridge._types import Inputs, Rows

__all__ = ["SecondLook"]

_FEW, _OTHER = 2, 3  # rows; of one, a model that squeezes would drop the axis
_MAP_AXES = 4

Run = Callable[[Inputs], None]


@dataclass
class SecondLook:
    """Shows a reader in doubt what layers return for another batch.

    `lent` is the replica that runs the batches, with `call`.
    """

    module: nn.Module
    lent: Replica
    layers: tuple[str, ...]
    reader: Reader
    call: Run
    feed: Feed

    def at(self, rows: Rows) -> None:
        """Run the longest of `rows` a few times over, and let the reader settle.

        A model that takes no other number of rows than it had gets as many again.
        """
        waiting = dict(self.reader.waiting)
        while True:
            try:
                with self._runner() as (run, calls):
                    self._settle(run, calls, rows)
            except RunAgainError:  # with a replica that fits the model better
                if self.lent.module is self.module:
                    raise
                self.reader.waiting = dict(waiting)
            else:
                return

    def _settle(self, run: Run, calls: list[Call], rows: Rows) -> None:
        n_rows = count_rows(rows)
        n_others = min(n_rows, _FEW)
        if self.reader.seeks_rows:
            n_others = _OTHER if n_rows == _FEW else _FEW
        for n_times in dict.fromkeys((n_others, n_rows)):
            looks = self._looks(run, calls, rows, n_times, None)
            if looks is not None:
                break

        def stretch() -> list[Looks]:
            longer = range(1, self._rank(rows))
            seen = [self._looks(run, calls, rows, n_times, axis) for axis in longer]
            return [one for one in seen if one is not None]

        self.reader.settle(looks or {}, stretch)

    def _looks(
        self,
        run: Run,
        calls: list[Call],
        rows: Rows,
        n_times: int,
        longer: int | None,
    ) -> Looks | None:
        """Return what comes of one row, several times; None if it cannot be run.

        With `longer`, maps among the inputs are twice as long on that axis.
        """
        calls.clear()
        try:
            inputs = on_device(self._repeated(rows, n_times), self.lent.place)
            if longer is not None:
                inputs = _stretched(inputs, longer)
            with self.reader.looking(inputs.mask, n_times, calls) as looks:
                run(inputs)
        except Exception:  # noqa: BLE001 - a model may take one size alone
            return None
        return looks

    def _rank(self, rows: Rows) -> int:
        """Return the most axes that an input has, of those that are maps."""
        inputs = self._repeated(rows, 1)
        return max(map(_n_map_axes, (*inputs.args, *inputs.kwargs.values())), default=0)

    def _repeated(self, rows: Rows, n_times: int) -> Inputs:
        """Prepare the longest of these rows, `n_times` in one batch."""
        places, lengths = as_indices(rows), self.feed.lengths
        longest = 0 if lengths is None else int(lengths[places].argmax())
        return self.feed.batch(np.repeat(places[longest], n_times))

    @contextmanager
    def _runner(self) -> Iterator[tuple[Run, list[Call]]]:
        """Yield what runs a replica for this alone; what has none runs itself."""
        own = self.lent.module
        if own is self.module:
            with calls_of(own) as calls:
                yield _together(self.lent, self.call), calls
            return
        with (
            replica(self.module, self.lent.place) as other,
            calls_of(other.module) as calls,
            taps(other.module, self.layers, self.reader.read) as run,
        ):
            other.forwards.begin(self.layers, False, False)
            yield _together(other, run), calls


def _together(lent: Replica, run: Run) -> Run:
    """Return what runs a batch as one; values do not matter, also if they are drawn."""
    return lambda inputs: lent.forwards.run(run, inputs, 1)


def _stretched(inputs: Inputs, axis: int) -> Inputs:
    """Return inputs whose maps are repeated along an axis."""

    def longer(value: Any) -> Any:
        return torch.cat([value] * 2, axis) if axis < _n_map_axes(value) else value

    args = tuple(map(longer, inputs.args))
    kwargs = {name: longer(value) for name, value in inputs.kwargs.items()}
    return replace(inputs, args=args, kwargs=kwargs)


def _n_map_axes(value: Any) -> int:
    is_map = isinstance(value, torch.Tensor) and value.ndim >= _MAP_AXES
    return value.ndim if is_map else 0
