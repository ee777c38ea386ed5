"""Look again at layers whose axes are in doubt, with other rows and other sizes."""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
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

    def __post_init__(self) -> None:
        self.reader.flow_of = self.lent.forwards.flow_now
        self.reader.pads = self.feed.padded_by is not None

    def mask_alone(self, rows: Rows, place: int) -> torch.Tensor | None:
        """Return the mask of one of these rows by itself."""
        return self.feed.batch(as_indices(rows)[place : place + 1]).mask

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
        numbers = [*dict.fromkeys((n_others, n_rows))]
        look = partial(self._looks, run, calls, rows)
        looks: Looks | None = None
        if not self.reader.seeks_tokens_alone:
            for n_times in numbers:
                looks = look(n_times, lambda inputs: inputs)
                if looks is not None:
                    numbers = [n_times]
                    break

        def stretch() -> list[Looks]:
            longer = range(1, self._rank(rows))
            seen = [look(numbers[0], partial(_stretched, axis=axis)) for axis in longer]
            return [one or {} for one in seen]

        @functools.cache
        def lengths() -> Looks:
            changes = (_cut, _doubled)
            found = (look(*one) for one in itertools.product(numbers, changes))
            return next((one for one in found if one), {})

        self.reader.settle(looks or {}, stretch, lengths)

    def _looks(
        self,
        run: Run,
        calls: list[Call],
        rows: Rows,
        n_times: int,
        change: Callable[[Inputs], Inputs],
    ) -> Looks | None:
        """Return what comes of one row, several times; None if it cannot be run.

        `change` makes inputs of other sizes.
        """
        calls.clear()
        try:
            repeated = change(self._repeated(rows, n_times))
            inputs = on_device(repeated, self.lent.place)
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


def _cut(inputs: Inputs) -> Inputs:
    """Return inputs with half as many tokens."""
    return _of_tokens(inputs, lambda value: value[:, : max(1, value.shape[1] // 2)])


def _doubled(inputs: Inputs) -> Inputs:
    """Return inputs with twice as many tokens."""
    return _of_tokens(inputs, lambda value: torch.cat([value] * 2, 1))


def _of_tokens(
    inputs: Inputs, change: Callable[[torch.Tensor], torch.Tensor]
) -> Inputs:
    """Change all inputs that have an entry for each token of each row."""
    assert inputs.mask is not None  # noqa: S101 - of which the reader has asked
    shape = inputs.mask.shape

    def changed(value: Any) -> Any:
        is_tensor = isinstance(value, torch.Tensor)
        if is_tensor and value.shape[:2] == shape:
            return change(value)
        if isinstance(value, Mapping):
            return {name: changed(one) for name, one in value.items()}
        return value

    args = tuple(map(changed, inputs.args))
    mask = change(inputs.mask)
    return Inputs(args, changed(inputs.kwargs), mask)


def _n_map_axes(value: Any) -> int:
    is_map = isinstance(value, torch.Tensor) and value.ndim >= _MAP_AXES
    return value.ndim if is_map else 0
