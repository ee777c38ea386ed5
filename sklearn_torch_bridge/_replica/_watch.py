"""What one forward pass writes to and draws, seen operation by operation."""

from collections.abc import Mapping
from typing import Any

import torch

from sklearn_torch_bridge._replica._findings import Draws, Findings
from sklearn_torch_bridge._replica._lent_tensors import Guard, extent, is_plain
from sklearn_torch_bridge._replica._operations import Operation, operation
from sklearn_torch_bridge._replica._redirected_draws import (
    Generators,
    drawn_shape,
    redirected,
)
from sklearn_torch_bridge._replica._rows_flow import RowsFlow
from sklearn_torch_bridge._torch_private import (
    OPERATOR_TYPES,
    DispatchMode,
    schema_of,
    storage_key,
)

__all__ = ["RunAgainError", "Watch"]


class RunAgainError(BaseException):
    """A forward needs another replica; no model's ``except Exception`` shall catch it.

    What was found is among the findings. With `stays_watched` later batches must be
    watched as well.
    """

    def __init__(self, *, stays_watched: bool = False) -> None:
        super().__init__()
        self.stays_watched = stays_watched


class Watch(DispatchMode):
    """Ends a forward before it writes to `guards`; has it draw from our generators.

    Then `again` is set, also where the model has made another error of it.
    """

    supports_higher_order_operators = True

    def __init__(
        self,
        findings: Findings,
        layers: tuple[str, ...],
        guards: Mapping[int, list[Guard]],
        seed: int,
        n_rows: int,
        *,
        flow: RowsFlow | None = None,
    ) -> None:
        super().__init__()
        self.again: RunAgainError | None = None
        self.foreign: str | None = None
        self.mixing: str | None = None
        self._findings = findings
        self._layers = layers
        self._guards = guards
        self._generators = Generators(seed)
        self._n_rows = n_rows
        self._flow = flow

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Let compiled code be compiled: torch would give it up for good otherwise."""
        return True

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one operation."""
        what, kwargs = operation(func), kwargs or {}
        given = {} if what.is_plain else what.bind(args, kwargs)
        written = what.writes_to(given)
        for tensor in written:
            self._check_write(tensor)
        if what.mixes_rows(given):
            self.mixing = schema_of(func).name
        if what.draws(given):
            return self._draw(func, what, given, args, kwargs)
        result = func(*args, **kwargs)
        if self._flow is not None and isinstance(func, OPERATOR_TYPES[0]):
            self._flow.follow(func, args, kwargs, written, result)
        return result

    def _check_write(self, tensor: torch.Tensor) -> None:
        if not self._guards or not is_plain(tensor):
            return
        span = extent(tensor)
        if span is None:
            return
        for guard in self._guards.get(storage_key(tensor.untyped_storage()), ()):
            if span[0] < guard.span[1] and guard.span[0] < span[1]:
                self._findings.written.update(guard.owners)
                if not guard.is_own:
                    self._run_again()

    def _draw(
        self,
        func: Any,
        what: Operation,
        given: dict[str, Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        shape = drawn_shape(given)
        if given.get("generator") is not None:  # the model's own
            if shape is not None and shape[:1] == (self._n_rows,):
                self._note(Draws.ROWS)
            return func(*args, **kwargs)
        if what.seeded is None:
            with self:  # seen by its parts
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        self._note(Draws.NUMBERS if shape == () else Draws.ROWS)
        result = redirected(func, what.seeded, given, self._generators)
        if result is not NotImplemented:
            return result
        self.foreign = schema_of(func).name
        return func(*args, **kwargs)

    def _note(self, draws: Draws) -> None:
        """Note what is drawn; a row that draws runs alone, with a seed of its own."""
        before = self._findings.draws.get(self._layers, Draws.NONE)
        if draws > before:
            self._findings.draws[self._layers] = draws
            if draws is Draws.ROWS:
                self._run_again()

    def _run_again(self) -> None:
        self.again = RunAgainError()
        raise self.again
